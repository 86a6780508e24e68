/* Calls glibc with buffers of every length, each as large as it says and no byte larger, for valgrind to watch.
 * The table has a group "everyone" of 5,000, user0 … user4999, and a user for each length of a name: n, nn, nnn … */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBERS 5000
#define LONGEST 255

static void wrong(const char *what, size_t length, int code)
{
	fprintf(stderr, "%s with %zu bytes: %d\n", what, length, code);
	exit(1);
}

static int inside(const void *at, size_t size, const char *buffer, size_t length)
{
	return (const char *)at >= buffer && (const char *)at + size <= buffer + length;
}

static int text_inside(const char *text, const char *buffer, size_t length)
{
	return inside(text, strlen(text) + 1, buffer, length);
}

static int user(const char *name, size_t length)
{
	char *b = malloc(length);
	struct passwd pw, *found = NULL;
	int code = getpwnam_r(name, &pw, b, length, &found);
	if (code == 0 && (!found || strcmp(pw.pw_name, name) || !text_inside(pw.pw_name, b, length) ||
			  !text_inside(pw.pw_passwd, b, length) || !text_inside(pw.pw_gecos, b, length) ||
			  !text_inside(pw.pw_dir, b, length) || !text_inside(pw.pw_shell, b, length)))
		wrong(name, length, -1);
	if (code != 0 && (code != ERANGE || found))
		wrong(name, length, code);
	free(b);
	return code == 0;
}

static int group(const char *name, gid_t gid, size_t members, size_t length)
{
	char *b = malloc(length);
	struct group gr, *found = NULL;
	int code = name ? getgrnam_r(name, &gr, b, length, &found) : getgrgid_r(gid, &gr, b, length, &found);
	if (code == 0) {
		size_t count = 0;
		if (!found || (uintptr_t)gr.gr_mem % sizeof(char *) || !text_inside(gr.gr_name, b, length) ||
		    !text_inside(gr.gr_passwd, b, length))
			wrong("a group", length, -1);
		for (char **member = gr.gr_mem; *member; member++, count++)
			if (!inside(member, 2 * sizeof *member, b, length) || !text_inside(*member, b, length))
				wrong("a member", length, -1);
		if (count != members)
			wrong("members", count, -1);
	} else if (code != ERANGE || found)
		wrong("a group", length, code);
	free(b);
	return code == 0;
}

int main(void)
{
	char name[LONGEST + 2];
	int users = 0, privates = 0, all = 0;
	for (size_t length = 0; length <= 4096; length++) {
		users += user("user7", length);
		privates += group("user7", 0, 0, length);
		if (length % 8 < 2) /* each alignment of the end; each takes a walk over what fits */
			all += group("everyone", 0, MEMBERS, length) + group(NULL, 3000, MEMBERS, length);
	}
	if (users < 3900 || privates < 3900 || all)
		wrong("successes", users, all);
	for (size_t length = 1; length <= LONGEST + 1; length++) {
		memset(name, 'n', length);
		name[length] = '\0';
		char buffer[2048];
		struct passwd pw, *found;
		if (getpwnam_r(name, &pw, buffer, sizeof buffer, &found) || !found != (length > LONGEST))
			wrong("a name", length, !found);
		if (length <= LONGEST)
			for (size_t room = length; room < 3 * length + 80; room += 7)
				user(name, room), group(name, 0, 0, room);
	}
	for (size_t length = 30000; length < 140000; length += 9001)
		all += group("everyone", 0, MEMBERS, length);
	if (!all)
		wrong("everyone", 0, 0);
	for (int room = 0; room < 6; room++) {
		gid_t *groups = malloc(room * sizeof *groups);
		int count = room, code = getgrouplist("user7", 10007, groups, &count);
		if (count != 3 || code != (room < 3 ? -1 : 3))
			wrong("groups", room, code);
		free(groups);
	}
	return 0;
}
