/* libbus/access.h: the users file (bus_link_config.users_file). It lists the users that may log in to a listening link.
 *
 * One user per line. Empty lines and lines that begin with # are ignored:
 *   NAME:$scram-sha-512$ITERATIONS$SALT$STOREDKEY$SERVERKEY[:clear-text]   bus_user_set() and `libbus user add` write it
 *   NAME:$7$ITERATIONS$SALT$HASH[:clear-text]                              mosquitto_passwd writes it
 * Salt, keys and hash are base64. The fields of the first form are not enough to log in. Passwords can be guessed from both forms, so
 * a file that other accounts can read or write is refused: give it mode 0600. A listener reads it at bus_listen() and bus_link_reload().
 *
 * In every call, file NULL means the file that bus_users_file() names. */
#ifndef LIBBUS_ACCESS_H
#define LIBBUS_ACCESS_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	BUS_USER_CLEAR_TEXT = 1, /* protocols that send the password (MQTT) accept this user without TLS too. Links never send it */
	BUS_USER_WEAK       = 2, /* read only: fewer than 4,096 iterations. Links refuse this user until the password is set again */
};

/* Writes the path of the default file, $XDG_CONFIG_HOME/libbus/users or ~/.config/libbus/users, NUL-terminated. Returns its length;
 * BUS_E_LIMIT when cap is too small, BUS_E_INVAL without a home directory.
 * Threads: any, while none changes the environment.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_users_file(char *ret_path, size_t cap);

/* Adds a user, or changes the password and flags of an existing one. Other lines stay as they are. Creates a missing file, and for the
 * default file its directories. name: 1 to 64 bytes of UTF-8 without control characters and : / + #; it neither begins nor ends with a
 * blank, and does not begin with $. password: 1 to 1,024 bytes of UTF-8 without control characters; it is not normalized.
 * 1: changed; 0: added. BUS_E_INVAL: bad name, password or flags, or the path is no regular file; BUS_E_DENIED: the file belongs to
 * another account, or others may read or write it; BUS_E_LIMIT, BUS_E_NOMEM, BUS_E_NOSPACE, BUS_E_SYS; BUS_E_NOTSUP: this libbus has no mbedTLS.
 * Threads: any.  Blocks: for the file, while another process changes it, and for about 0.1 s of hashing (2 s on the
 * smallest Pi).  Callbacks: none run inside. */
BUS_API int bus_user_set(const char *file, const char *name, const char *password, uint32_t flags);

/* Removes a user. The user's connections stay until their listener reads the file again. 1: removed; 0: no such user. Errors as for
 * bus_user_set().
 * Threads: any.  Blocks: for the file.  Callbacks: none run inside. */
BUS_API int bus_user_remove(const char *file, const char *name);

/* Checks a user's password. 0: correct. BUS_E_AUTH: wrong password or no such user; bus_error_text() says which. Other errors as for
 * bus_user_set(); BUS_E_INVAL also for a malformed line.
 * Threads: any.  Blocks: as bus_user_set().  Callbacks: none run inside. */
BUS_API int bus_user_check(const char *file, const char *name, const char *password);

/* Calls each() for every user, sorted by name, and returns their number; a missing file has none. name is borrowed. Errors as for
 * bus_user_check().
 * Threads: any.  Blocks: for the file.  Callbacks: each(), on this thread. */
BUS_API int bus_users_each(
    const char *file, void (*each)(void *arg, const char *name, uint32_t flags), void *arg);

#ifdef __cplusplus
}
#endif
#endif
