/* The least a session daemon can do that asks other name services about a login, publishes it, writes its session down for a
 * restart and gives it a sudoers file that is on disk before the login goes on. One thread, one call after the other. No
 * policy, no leaders, no homes, no clean-up, no checks of who calls. Asked for it ('r'), it does not even ask the others. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ROOT "/run/sessions-floor"
#define SLOTS 16384

extern int __nss_configure_lookup(const char *database, const char *services);
struct slot {
	uint64_t sequence;
	uint32_t uid, used;
	char name[48];
};
static struct slot *table;
static char buffer[65536];

static uint32_t hash(const char *name)
{
	uint32_t h = 2166136261u;
	while (*name)
		h = (h ^ (unsigned char)*name++) * 16777619u;
	return h;
}

static struct slot *find(const char *name)
{
	uint32_t at = hash(name) % SLOTS, tries;
	for (tries = 0; tries < SLOTS; tries++, at = (at + 1) % SLOTS)
		if (!table[at].used || !strcmp(table[at].name, name))
			return &table[at];
	exit(1);
}

static int known_to_others(const char *name, uint32_t id)
{
	struct passwd pw, *user;
	struct group gr, *group;
	struct stat st;
	if (getpwnam_r(name, &pw, buffer, sizeof buffer, &user) || user || getgrnam_r(name, &gr, buffer, sizeof buffer, &group) || group)
		return 1;
	if (getpwuid_r(id, &pw, buffer, sizeof buffer, &user) || user || getgrgid_r(id, &gr, buffer, sizeof buffer, &group) || group)
		return 1;
	getgrnam_r("teleport-tmp", &gr, buffer, sizeof buffer, &group);
	stat("/etc/subuid", &st);
	stat("/etc/subgid", &st);
	return getpriority(PRIO_USER, id) >= 0;
}

static int put(const char *folder, const char *name, mode_t mode, const char *text, int durable)
{
	char temporary[400], path[400];
	int fd, done;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	snprintf(temporary, sizeof temporary, "%s/.%s.new", folder, name);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return 0;
	done = write(fd, text, strlen(text)) > 0 && (!durable || fsync(fd) == 0);
	close(fd);
	return done && rename(temporary, path) == 0;
}

static int call(char what, const char *name)
{
	struct slot *slot = find(name);
	uint32_t uid = 0x70000000u + hash(name) % 0xffd0000u;
	char text[500], file[64];
	if (strlen(name) >= sizeof slot->name)
		return 0;
	snprintf(file, sizeof file, "floor-%.47s", name);
	switch (what) {
	case 'R':
		if (known_to_others(name, uid))
			return 0;
		/* fall through */
	case 'r':
		__atomic_add_fetch(&slot->sequence, 1, __ATOMIC_ACQ_REL);
		slot->uid = uid;
		snprintf(slot->name, sizeof slot->name, "%.47s", name);
		slot->used = 1;
		__atomic_add_fetch(&slot->sequence, 1, __ATOMIC_ACQ_REL);
		snprintf(text, sizeof text, "reserved %s %u\n", name, uid);
		return put(ROOT "/sessions", name, 0600, text, 0);
	case 'O':
		snprintf(text, sizeof text, "open %s %u\n", name, uid);
		if (!put(ROOT "/sessions", name, 0600, text, 0))
			return 0;
		snprintf(text, sizeof text, "# floor\n%s ALL=(ALL) NOPASSWD: ALL\n", name);
		return put("/etc/sudoers.d", file, 0440, text, 1);
	default:
		snprintf(text, sizeof text, "/etc/sudoers.d/%s", file);
		unlink(text);
		__atomic_add_fetch(&slot->sequence, 1, __ATOMIC_ACQ_REL);
		slot->uid = 0; /* the slot stays its name's: nothing behind it is lost */
		__atomic_add_fetch(&slot->sequence, 1, __ATOMIC_ACQ_REL);
		snprintf(text, sizeof text, ROOT "/sessions/%s", name);
		return unlink(text) == 0;
	}
}

int main(void)
{
	struct sockaddr_un address = { AF_UNIX, ROOT "/socket" };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), file;
	mkdir(ROOT, 0755);
	mkdir(ROOT "/sessions", 0700);
	file = open(ROOT "/table", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (file < 0 || ftruncate(file, SLOTS * sizeof *table) != 0)
		return 1;
	table = mmap(NULL, SLOTS * sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	unlink(address.sun_path);
	if (table == MAP_FAILED || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
		return 1;
	setenv("SYSTEMD_BYPASS_USERDB", "com.goteleport.DynamicUser", 1);
	__nss_configure_lookup("passwd", "files systemd");
	__nss_configure_lookup("group", "files systemd");
	for (;;) {
		char line[300];
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
		if (length > 1) {
			line[length] = 0;
			(void)!write(fd, call(line[0], line + 1) ? "+" : "-", 1);
		}
		if (fd >= 0)
			close(fd);
	}
}
