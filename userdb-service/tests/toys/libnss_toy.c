/* An NSS module with every way to behave: which one is chosen by the name asked for. */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum nss_status behave(const char *name, size_t len, int *errnop)
{
    if (!strncmp(name, "hang", 4) || !strcmp(name, "HUSH"))
        for (;;)
            pause();
    if (!strncmp(name, "slow", 4))
        usleep(300000);
    if (!strncmp(name, "crash", 5))
        abort();
    if (!strcmp(name, "refused")) {
        *errnop = ECONNREFUSED;
        return NSS_STATUS_UNAVAIL;
    }
    if (!strcmp(name, "silent"))
        return NSS_STATUS_UNAVAIL;
    if (!strcmp(name, "again")) {
        *errnop = EAGAIN;
        return NSS_STATUS_TRYAGAIN;
    }
    if (!strcmp(name, "large") && len < 300000) {
        *errnop = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    if (!strcmp(name, "bypassed")) {
        const char *bypass = getenv("SYSTEMD_BYPASS_USERDB");
        if (!bypass || strcmp(bypass, "com.goteleport.DynamicUser"))
            return NSS_STATUS_NOTFOUND;
        return NSS_STATUS_SUCCESS;
    }
    if (!strcmp(name, "large") || !strncmp(name, "toy", 3) || !strncmp(name, "lie-", 4) ||
        !strcmp(name, "TWIN"))
        return NSS_STATUS_SUCCESS;
    return NSS_STATUS_NOTFOUND;
}

/* Success, with something else than what was asked for. */
static void lie(const char *name, struct passwd *pw)
{
    if (!strcmp(name, "lie-root")) {
        pw->pw_name = "root";
        pw->pw_uid = pw->pw_gid = 0;
    } else if (!strcmp(name, "lie-null")) {
        pw->pw_name = NULL;
    } else if (!strcmp(name, "lie-bytes")) {
        pw->pw_name = "\n{\"Done\":null}\n\033[2J\377";
    }
}

enum nss_status _nss_toy_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t len, int *errnop)
{
    enum nss_status status = behave(name, len, errnop);
    if (status == NSS_STATUS_SUCCESS) {
        strcpy(buf, name);
        pw->pw_name = buf;
        pw->pw_passwd = pw->pw_gecos = pw->pw_dir = pw->pw_shell = buf + strlen(name);
        pw->pw_uid = 77001;
        pw->pw_gid = 77002;
        lie(name, pw);
    }
    return status;
}

enum nss_status _nss_toy_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len, int *errnop)
{
    return uid == 77001 ? _nss_toy_getpwnam_r("toy", pw, buf, len, errnop) : NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_toy_getgrnam_r(const char *name, struct group *gr, char *buf, size_t len, int *errnop)
{
    static char *none[] = {NULL};
    enum nss_status status = behave(name, len, errnop);
    if (status == NSS_STATUS_SUCCESS) {
        strcpy(buf, name);
        gr->gr_name = buf;
        gr->gr_passwd = buf + strlen(name);
        gr->gr_gid = 77003;
        gr->gr_mem = none;
    }
    return status;
}
enum nss_status _nss_toy_initgroups_dyn(const char *name, gid_t skipped, long *start, long *size, gid_t **groups,
                                        long limit, int *errnop)
{
    /* "large" is in more groups than there is room for at first. */
    long count = strcmp(name, "large") ? 1 : 300;
    enum nss_status status = behave(name, 300000, errnop);
    (void)skipped, (void)limit;
    if (status != NSS_STATUS_SUCCESS)
        return status;
    if (*size < count) {
        *groups = realloc(*groups, count * sizeof **groups);
        *size = count;
    }
    for (long i = 0; i < count; i++)
        (*groups)[(*start)++] = 77003 + i;
    return status;
}

/* No getgrgid_r: a module may serve a part of a database only. */
