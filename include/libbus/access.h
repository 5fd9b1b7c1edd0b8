/* libbus/access.h: the users file, which says who may connect to an address with user and password (bus_link_config.users_file).
 *
 * One user a line; empty lines and those that begin with # are ignored:
 *   NAME:$scram-sha-512$ITERATIONS$SALT$STOREDKEY$SERVERKEY[:clear-text]   of bus_user_set() and `libbus user add`
 *   NAME:$7$ITERATIONS$SALT$HASH[:clear-text]                              of mosquitto_passwd
 * Salt, keys and hash are base64. Nobody logs in with what the first form has in it, but passwords can be guessed from either: the
 * file has mode 0600 and is refused otherwise. A listener reads it at bus_listen() and bus_link_reload().
 *
 * file NULL, in all calls: the one that bus_users_file() names. */
#ifndef LIBBUS_ACCESS_H
#define LIBBUS_ACCESS_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	BUS_USER_CLEAR_TEXT = 1, /* protocols that send the password itself may use this user without TLS: MQTT. Links never send it */
	BUS_USER_WEAK       = 2, /* read only: the line has fewer than 4,096 iterations, and links refuse it; set the password anew */
};

/* Writes the path of the default file, $XDG_CONFIG_HOME/libbus/users or ~/.config/libbus/users, NUL-terminated. Returns its length;
 * BUS_E_LIMIT when cap is too small, BUS_E_INVAL without a home directory.
 * Threads: any, while none changes the environment.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_users_file(char *ret_path, size_t cap);

/* Adds a user, or changes password and flags of one; other lines stay as they are. Makes the file where there is none, and the
 * directories of the default file. name: 1 to 64 bytes of UTF-8 without control characters and : / + #, with no blank at its ends and no
 * $ in front. password: 1 to 1,024 bytes of UTF-8 without control characters; its form of Unicode is taken as it is.
 * 1: changed; 0: added. BUS_E_INVAL: name, password, flags, or a file that is none; BUS_E_DENIED: the file is another user's, or others
 * may read it; BUS_E_LIMIT, BUS_E_NOMEM, BUS_E_NOSPACE, BUS_E_SYS; BUS_E_NOTSUP: this libbus has no mbedTLS.
 * Threads: any.  Blocks: for the file, also while another process changes it, and for about 0.1 s of hashing (2 s on the
 * smallest Pi).  Callbacks: none run inside. */
BUS_API int bus_user_set(const char *file, const char *name, const char *password, uint32_t flags);

/* Takes a user away. Connections that the user has stay until their listener reads the file again. 1: done; 0: there is no such
 * user. Errors as above.
 * Threads: any.  Blocks: for the file.  Callbacks: none run inside. */
BUS_API int bus_user_remove(const char *file, const char *name);

/* Whether this is the user's password. 0: it is. BUS_E_AUTH: it is not, or there is no such user: bus_error_text() says which. Errors
 * as above, and BUS_E_INVAL for a bad line.
 * Threads: any.  Blocks: as bus_user_set().  Callbacks: none run inside. */
BUS_API int bus_user_check(const char *file, const char *name, const char *password);

/* Calls each() for every user, in the order of names, and returns how many there are; 0 also where there is no file. name is
 * borrowed. Errors as above.
 * Threads: any.  Blocks: for the file.  Callbacks: each(), on this thread. */
BUS_API int bus_users_each(
    const char *file, void (*each)(void *arg, const char *name, uint32_t flags), void *arg);

#ifdef __cplusplus
}
#endif
#endif
