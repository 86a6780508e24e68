/* pam_logins SERVICE PREFIX COUNT serial|parallel|held LOOKUP: so many logins, each from a process of its own, as a Teleport child
 * makes them: account, open, close. Serial: a line "login-ns logout-ns" for each. Parallel: all at once, one line with the wall
 * times until all are in and until all are out. Held: one after the other and all stay; "held", and they close once standard
 * input ends. Then "wrong N": logins refused, or (LOOKUP yes) not found after open, or found after close. libpam by dlopen, as
 * Teleport does, but for everybody: the floor's module is not linked with it. Everything is loaded before a login begins, and what
 * a shell has left open is closed: a Teleport child has a handful of descriptors, and what looks at them all takes longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct conv {
	int (*talk)(int, const void **, void **, void *);
	void *data;
};
static int (*start)(const char *, const char *, const struct conv *, void **);
static int (*put)(void *, const char *), (*account)(void *, int), (*opens)(void *, int), (*closes)(void *, int), (*end)(void *, int);

static int talk(int count, const void **messages, void **answers, void *data)
{
	*answers = calloc(count, 16);
	return 0;
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int known(const char *name)
{
	char buffer[4096];
	struct passwd pw, *found;
	return getpwnam_r(name, &pw, buffer, sizeof buffer, &found) == 0 && found;
}

static void *begin(const char *service, const char *name)
{
	static const struct conv conv = { talk, NULL };
	char login[200];
	void *h;
	snprintf(login, sizeof login, "TELEPORT_LOGIN=%s", name);
	if (start(service, name, &conv, &h))
		exit(2);
	put(h, login);
	put(h, "TELEPORT_USERNAME=alice");
	put(h, "TELEPORT_ROLES=bench");
	return h;
}

/* Waits for a byte on `gate` before login and on `leave` before logout if they are some; reports on `report`. */
static void login(const char *service, const char *name, int look, int gate, int leave, int report)
{
	long times[3] = { 0, 0, 0 }, t;
	void *h = begin(service, name);
	char byte;
	if (gate >= 0 && (write(report, times, sizeof times) < 0 || read(gate, &byte, 1) < 0))
		exit(2);
	t = now();
	if (account(h, 0) || opens(h, 0))
		times[2]++;
	times[0] = now() - t;
	if (look && !times[2] && !known(name))
		times[2]++;
	if (gate >= 0 && (write(report, times, sizeof times) < 0 || read(leave, &byte, 1) < 0))
		exit(2);
	t = now();
	if (!times[2] && closes(h, 0))
		times[2]++;
	times[1] = now() - t;
	if (look && known(name))
		times[2]++;
	end(h, 0);
	if (write(report, times, sizeof times) < 0)
		exit(2);
	exit(0);
}

static long collect(int report, int count)
{
	long times[3], wrong = 0;
	while (count-- > 0 && read(report, times, sizeof times) == sizeof times)
		wrong += times[2];
	return wrong + (count >= 0 ? count + 1 : 0);
}

int main(int argc, char **argv)
{
	int report[2], gate[2], leave[2], count, index, together, held, look;
	long times[3], wrong = 0, t;
	char name[100], gates[4096] = { 0 };
	int inherited = close_range(3, ~0U, 0);
	void *pam = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
	/* What waits in a buffer would be written once more by each child. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (inherited || argc != 6 || atoi(argv[3]) > (int)sizeof gates || !pam || pipe(report) || pipe(gate) || pipe(leave))
		return 2;
	/* In each child it would read all of /etc/passwd right before it logs in. */
	known("nobody-has-this-name");
	start = dlsym(pam, "pam_start"), put = dlsym(pam, "pam_putenv"), account = dlsym(pam, "pam_acct_mgmt");
	opens = dlsym(pam, "pam_open_session"), closes = dlsym(pam, "pam_close_session"), end = dlsym(pam, "pam_end");
	count = atoi(argv[3]), held = !strcmp(argv[4], "held"), together = held || !strcmp(argv[4], "parallel"), look = !strcmp(argv[5], "yes");
	for (index = 0; index < count; index++) {
		snprintf(name, sizeof name, "%s%d", argv[2], index);
		if (fork() == 0)
			login(argv[1], name, look, together ? gate[0] : -1, leave[0], report[1]);
		if (held) {
			/* One after the other; whoever is in does not look at this gate any more. */
			collect(report[0], 1);
			(void)!write(gate[1], gates, 1);
			collect(report[0], 1);
		} else if (!together) {
			if (read(report[0], times, sizeof times) != sizeof times)
				return 2;
			printf("%ld %ld\n", times[0], times[1]);
			wrong += times[2];
			wait(NULL);
		}
	}
	if (held) {
		printf("held\n");
		fflush(stdout);
		while (read(0, name, sizeof name) > 0)
			;
		(void)!write(leave[1], gates, count);
		wrong = collect(report[0], count);
		while (wait(NULL) > 0)
			;
	} else if (together) {
		collect(report[0], count);
		t = now();
		(void)!write(gate[1], gates, count);
		collect(report[0], count);
		times[0] = now() - t;
		t = now();
		(void)!write(leave[1], gates, count);
		wrong = collect(report[0], count);
		printf("%ld %ld\n", times[0], now() - t);
		while (wait(NULL) > 0)
			;
	}
	printf("wrong %ld\n", wrong);
	return 0;
}
