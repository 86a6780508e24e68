/* A name service over a mapped file: two hash tables for users, two for groups, fixed-size records, one sequence counter.
 * What every shared-memory name service does at least. No checks of what is read, no trust, no growth, no second file. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/run/shm-floor/table"

struct user {
	uint32_t uid, gid, ngroups, groups[2];
	uint16_t length, passwd, gecos, home, shell, unused; /* of the strings, one behind the other, each with its NUL */
	char name[192];
};
struct team {
	char name[40];
	uint32_t gid, nmembers, first, unused;
};
struct file {
	_Atomic uint64_t sequence; /* odd while the writer is inside */
	uint32_t user_mask, group_mask, users, groups;
	uint32_t index[]; /* users by name, by uid; groups by name, by gid; then users, groups, members */
};

static _Atomic(struct file *) mapped;

static struct file *table(void)
{
	struct file *file = atomic_load_explicit(&mapped, memory_order_acquire), *other = NULL;
	struct stat st;
	if (file)
		return file;
	int fd = open(PATH, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (file = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0)) != MAP_FAILED) {
		if (!atomic_compare_exchange_strong(&mapped, &other, file)) {
			munmap(file, st.st_size);
			file = other;
		}
	} else
		file = NULL;
	close(fd);
	return file;
}

static const uint32_t *users_by_name(const struct file *f) { return f->index; }
static const uint32_t *users_by_uid(const struct file *f) { return users_by_name(f) + f->user_mask + 1; }
static const uint32_t *groups_by_name(const struct file *f) { return users_by_uid(f) + f->user_mask + 1; }
static const uint32_t *groups_by_gid(const struct file *f) { return groups_by_name(f) + f->group_mask + 1; }
static const struct user *users(const struct file *f) { return (const void *)(groups_by_gid(f) + f->group_mask + 1); }
static const struct team *groups(const struct file *f) { return (const void *)(users(f) + f->users); }
static const uint32_t *members(const struct file *f) { return (const void *)(groups(f) + f->groups); }

static uint64_t mix(uint64_t v)
{
	v *= 0x9e3779b97f4a7c15u;
	return v ^ v >> 32;
}

static uint64_t hash(const char *name)
{
	uint64_t h = 0, word;
	size_t n = strlen(name);
	for (; n >= 8; n -= 8, name += 8) {
		memcpy(&word, name, 8);
		h = mix(h ^ word);
	}
	for (word = 0; n; n--)
		word = word << 8 | (unsigned char)*name++;
	return mix(h ^ word);
}

/* What happens between two readings of an even sequence has been read whole. */
static uint64_t begin(struct file *f)
{
	uint64_t s;
	while ((s = atomic_load_explicit(&f->sequence, memory_order_acquire)) & 1)
		sched_yield();
	return s;
}

static int whole(struct file *f, uint64_t s)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&f->sequence, memory_order_relaxed) == s;
}

static char *put(char **at, const char *end, const char *text)
{
	size_t n = strlen(text) + 1;
	char *start = *at;
	if ((size_t)(end - start) < n)
		return NULL;
	*at = start + n;
	return memcpy(start, text, n);
}

static enum nss_status give_user(const struct user *u, struct passwd *pw, char *b, size_t n, int *err)
{
	if (n < u->length) {
		*err = ERANGE;
		return NSS_STATUS_TRYAGAIN;
	}
	pw->pw_name = memcpy(b, u->name, u->length);
	pw->pw_passwd = b + u->passwd;
	pw->pw_gecos = b + u->gecos;
	pw->pw_dir = b + u->home;
	pw->pw_shell = b + u->shell;
	pw->pw_uid = u->uid;
	pw->pw_gid = u->gid;
	return NSS_STATUS_SUCCESS;
}

static enum nss_status give_group(const struct file *f, const struct team *g, struct group *gr, char *b, size_t n, int *err)
{
	char *end = b + n, **list = (char **)(((uintptr_t)b + 7) & ~(uintptr_t)7);
	b = (char *)(list + g->nmembers + 1);
	if (b > end || !(gr->gr_name = put(&b, end, g->name)) || !(gr->gr_passwd = put(&b, end, "x")))
		goto small;
	for (uint32_t i = 0; i < g->nmembers; i++)
		if (!(list[i] = put(&b, end, users(f)[members(f)[g->first + i]].name)))
			goto small;
	list[g->nmembers] = NULL;
	gr->gr_mem = list;
	gr->gr_gid = g->gid;
	return NSS_STATUS_SUCCESS;
small:
	*err = ERANGE;
	return NSS_STATUS_TRYAGAIN;
}

static const struct user *user_called(const struct file *f, const char *name)
{
	for (uint64_t h = hash(name);; h++) {
		uint32_t i = users_by_name(f)[h & f->user_mask];
		if (!i || !strcmp(users(f)[i - 1].name, name))
			return i ? &users(f)[i - 1] : NULL;
	}
}

enum nss_status _nss_shm_getpwnam_r(const char *name, struct passwd *pw, char *b, size_t n, int *err)
{
	struct file *f = table();
	enum nss_status status;
	uint64_t s;
	if (!f)
		return NSS_STATUS_NOTFOUND;
	do {
		s = begin(f);
		const struct user *u = user_called(f, name);
		status = u ? give_user(u, pw, b, n, err) : NSS_STATUS_NOTFOUND;
	} while (!whole(f, s));
	return status;
}

enum nss_status _nss_shm_getpwuid_r(uid_t uid, struct passwd *pw, char *b, size_t n, int *err)
{
	struct file *f = table();
	enum nss_status status;
	uint64_t s;
	if (!f)
		return NSS_STATUS_NOTFOUND;
	do {
		s = begin(f);
		for (uint64_t h = mix(uid);; h++) {
			uint32_t i = users_by_uid(f)[h & f->user_mask];
			if (i && users(f)[i - 1].uid != uid)
				continue;
			status = i ? give_user(&users(f)[i - 1], pw, b, n, err) : NSS_STATUS_NOTFOUND;
			break;
		}
	} while (!whole(f, s));
	return status;
}

enum nss_status _nss_shm_getgrnam_r(const char *name, struct group *gr, char *b, size_t n, int *err)
{
	struct file *f = table();
	enum nss_status status;
	uint64_t s;
	if (!f)
		return NSS_STATUS_NOTFOUND;
	do {
		s = begin(f);
		for (uint64_t h = hash(name);; h++) {
			uint32_t i = groups_by_name(f)[h & f->group_mask];
			if (i && strcmp(groups(f)[i - 1].name, name))
				continue;
			status = i ? give_group(f, &groups(f)[i - 1], gr, b, n, err) : NSS_STATUS_NOTFOUND;
			break;
		}
	} while (!whole(f, s));
	return status;
}

enum nss_status _nss_shm_getgrgid_r(gid_t gid, struct group *gr, char *b, size_t n, int *err)
{
	struct file *f = table();
	enum nss_status status;
	uint64_t s;
	if (!f)
		return NSS_STATUS_NOTFOUND;
	do {
		s = begin(f);
		for (uint64_t h = mix(gid);; h++) {
			uint32_t i = groups_by_gid(f)[h & f->group_mask];
			if (i && groups(f)[i - 1].gid != gid)
				continue;
			status = i ? give_group(f, &groups(f)[i - 1], gr, b, n, err) : NSS_STATUS_NOTFOUND;
			break;
		}
	} while (!whole(f, s));
	return status;
}

enum nss_status _nss_shm_initgroups_dyn(const char *name, gid_t primary, long *start, long *size, gid_t **array, long limit,
					int *err)
{
	struct file *f = table();
	gid_t found[2];
	uint32_t n;
	uint64_t s;
	if (!f)
		return NSS_STATUS_NOTFOUND;
	do {
		s = begin(f);
		const struct user *u = user_called(f, name);
		if (!u && whole(f, s))
			return NSS_STATUS_NOTFOUND;
		n = u && u->ngroups <= 2 ? u->ngroups : 0;
		for (uint32_t i = 0; i < n; i++)
			found[i] = u->groups[i];
	} while (!whole(f, s));
	for (uint32_t i = 0; i < n; i++) {
		if (found[i] == primary || (limit > 0 && *start >= limit))
			continue;
		if (*start == *size) {
			gid_t *grown = realloc(*array, 2 * *size * sizeof(gid_t));
			if (!grown) {
				*err = ENOMEM;
				return NSS_STATUS_TRYAGAIN;
			}
			*array = grown;
			*size *= 2;
		}
		(*array)[(*start)++] = found[i];
	}
	return NSS_STATUS_SUCCESS;
}
