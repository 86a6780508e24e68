/* A fresh process and its first lookup. first hit|miss|login NAME: nanoseconds of what NAME is asked for, through the
 * nsswitch.conf of the machine. "login" is getpwnam, getgrouplist and getgrgid, as a program that starts a session does.
 * first memory NAME: KiB of private memory in the mappings of the module and the table after a lookup of each kind. */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int found(const char *name, struct passwd *pw)
{
	static char buffer[4096];
	struct passwd *result;
	return getpwnam_r(name, pw, buffer, sizeof buffer, &result) == 0 && result;
}

static int login(const char *name, struct passwd *pw)
{
	static char buffer[65536];
	gid_t groups[64];
	int count = 64;
	struct group gr, *result;
	return found(name, pw) && getgrouplist(name, pw->pw_gid, groups, &count) > 0 &&
	       getgrgid_r(pw->pw_gid, &gr, buffer, sizeof buffer, &result) == 0 && result;
}

static int memory(void)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512];
	long kib, total = 0;
	int ours = 0;
	while (maps && fgets(line, sizeof line, maps)) {
		if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
			ours = strstr(line, "libnss_") || strstr(line, "teleport-userdb/accounts") || strstr(line, "shm-floor");
		else if (ours && sscanf(line, "Private_Dirty: %ld", &kib) == 1)
			total += kib;
	}
	return printf("%ld\n", total) < 0;
}

int main(int argc, char **argv)
{
	struct timespec before, after;
	struct passwd pw;
	int right;
	if (argc != 3)
		return 2;
	if (!strcmp(argv[1], "memory"))
		return login(argv[2], &pw) ? memory() : 1;
	clock_gettime(CLOCK_MONOTONIC, &before);
	if (!strcmp(argv[1], "login"))
		right = login(argv[2], &pw);
	else
		right = found(argv[2], &pw) == !strcmp(argv[1], "hit");
	clock_gettime(CLOCK_MONOTONIC, &after);
	if (!right)
		return 1;
	printf("%ld\n", (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec);
	return 0;
}
