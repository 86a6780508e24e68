/* A name service that knows the answer: nobody called a…, everybody else; IDs from 100000 on. What is left is glibc's own part. */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <string.h>

static char *const nobody[] = { NULL };

static enum nss_status user(uid_t uid, struct passwd *pw)
{
	pw->pw_name = pw->pw_passwd = pw->pw_gecos = pw->pw_dir = pw->pw_shell = "x";
	pw->pw_uid = pw->pw_gid = uid;
	return NSS_STATUS_SUCCESS;
}

static enum nss_status group(gid_t gid, struct group *gr)
{
	gr->gr_name = gr->gr_passwd = "x";
	gr->gr_gid = gid;
	gr->gr_mem = (char **)nobody;
	return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_null_getpwnam_r(const char *name, struct passwd *pw, char *b, size_t n, int *err)
{
	return *name == 'a' ? NSS_STATUS_NOTFOUND : user(100000, pw);
}

enum nss_status _nss_null_getpwuid_r(uid_t uid, struct passwd *pw, char *b, size_t n, int *err)
{
	return uid < 100000 ? NSS_STATUS_NOTFOUND : user(uid, pw);
}

enum nss_status _nss_null_getgrnam_r(const char *name, struct group *gr, char *b, size_t n, int *err)
{
	return *name == 'a' ? NSS_STATUS_NOTFOUND : group(100000, gr);
}

enum nss_status _nss_null_getgrgid_r(gid_t gid, struct group *gr, char *b, size_t n, int *err)
{
	return gid < 100000 ? NSS_STATUS_NOTFOUND : group(gid, gr);
}

enum nss_status _nss_null_initgroups_dyn(const char *name, gid_t primary, long *start, long *size, gid_t **array, long limit,
					 int *err)
{
	if (*name == 'a')
		return NSS_STATUS_NOTFOUND;
	if (*start < *size)
		(*array)[(*start)++] = 60000;
	return NSS_STATUS_SUCCESS;
}
