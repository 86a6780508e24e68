/* crowd SERVICE PREFIX SESSIONS USERS AT-ONCE: so many sessions, each led by a process of its own, opened so many at a time.
 * Says "open N refused M" once all stand, then "first A last B": microseconds that the first and the last tenth took, each. What the
 * refused are told goes to standard error. For each line of standard input: "kill" ends every second session of each user by
 * SIGKILL of its leader, "close" the rest by closing them; then "ended N". */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct message {
	int style;
	const char *text;
};

struct conv {
	int (*talk)(int, const struct message **, void **, void *);
	void *data;
};

static int talk(int count, const struct message **messages, void **answers, void *data)
{
	for (int index = 0; index < count; index++)
		fprintf(stderr, "%s\n", messages[index]->text);
	*answers = calloc(count, 16);
	return 0;
}

static void session(void *pam, const char *service, const char *name, int report, int gate)
{
	int (*start)(const char *, const char *, const struct conv *, void **) = dlsym(pam, "pam_start");
	int (*put)(void *, const char *) = dlsym(pam, "pam_putenv");
	int (*admit)(void *, int) = dlsym(pam, "pam_acct_mgmt"), (*opens)(void *, int) = dlsym(pam, "pam_open_session");
	int (*closes)(void *, int) = dlsym(pam, "pam_close_session"), (*end)(void *, int) = dlsym(pam, "pam_end");
	static const struct conv conv = { talk, NULL };
	char login[200], byte;
	void *h;
	snprintf(login, sizeof login, "TELEPORT_LOGIN=%s", name);
	if (start(service, name, &conv, &h))
		exit(2);
	put(h, login);
	put(h, "TELEPORT_USERNAME=alice");
	put(h, "TELEPORT_ROLES=dev");
	byte = admit(h, 0) || opens(h, 0) ? '-' : '+';
	if (write(report, &byte, 1) != 1 || byte == '-')
		exit(1);
	if (read(gate, &byte, 1) == 1)
		exit(closes(h, 0) || end(h, 0));
	exit(3);
}

static long long now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000LL + at.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	int report[2], gate[2], sessions, users, at_once, started = 0, stood = 0, open = 0, index;
	char name[100], line[100], byte;
	void *pam = dlopen("libpam.so.0", RTLD_NOW);
	pid_t *pids;
	long long began = now(), first = 0, before_last = began;
	if (argc != 6 || !pam || pipe(report) || pipe(gate))
		return 2;
	sessions = atoi(argv[3]), users = atoi(argv[4]), at_once = atoi(argv[5]);
	pids = calloc(sessions, sizeof *pids);
	while (stood < sessions) {
		while (started < sessions && started - stood < at_once) {
			snprintf(name, sizeof name, "%s%d", argv[2], started % users);
			pids[started] = fork();
			if (pids[started] < 0)
				return 2;
			if (pids[started] == 0) {
				close(gate[1]);
				close(report[0]);
				session(pam, argv[1], name, report[1], gate[0]);
			}
			started++;
		}
		if (read(report[0], &byte, 1) != 1)
			return 2;
		stood++;
		if (stood == sessions / 10)
			first = now() - began;
		if (stood == sessions - sessions / 10)
			before_last = now();
		open += byte == '+';
	}
	printf("open %d refused %d\n", open, stood - open);
	printf("first %lld last %lld\n", first * 10 / sessions, (now() - before_last) * 10 / sessions);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		int ended = 0;
		for (index = 0; index < sessions; index++) {
			if (pids[index] == 0 || (line[0] == 'k' && index / users % 2))
				continue;
			if (line[0] == 'k')
				kill(pids[index], SIGKILL);
			else if (write(gate[1], "", 1) != 1)
				return 2;
			ended++;
		}
		for (index = 0; index < ended; index++)
			wait(NULL);
		for (index = 0; index < sessions; index++)
			if (line[0] != 'k' || index / users % 2 == 0)
				pids[index] = 0;
		printf("ended %d\n", ended);
		fflush(stdout);
	}
	return 0;
}
