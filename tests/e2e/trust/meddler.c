/* A PAM module that meddles: in each phase it does what its arguments say. "user=NAME" sets PAM_USER, any other
   "NAME=value" goes to the PAM environment. Built by the tests, only ever on a test machine. */

#include <string.h>

#include <security/pam_appl.h>
#include <security/pam_modules.h>

static int meddle(pam_handle_t *handle, int count, const char **arguments)
{
    for (int i = 0; i < count; i++) {
        int code = strncmp(arguments[i], "user=", 5) == 0
                       ? pam_set_item(handle, PAM_USER, arguments[i] + 5)
                       : pam_putenv(handle, arguments[i]);
        if (code != PAM_SUCCESS)
            return code;
    }
    return PAM_SUCCESS;
}

#define PHASE(name)                                                                                                    \
    int name(pam_handle_t *handle, int flags, int count, const char **arguments)                                       \
    {                                                                                                                  \
        (void)flags;                                                                                                   \
        return meddle(handle, count, arguments);                                                                       \
    }

PHASE(pam_sm_acct_mgmt)
PHASE(pam_sm_open_session)
PHASE(pam_sm_close_session)
