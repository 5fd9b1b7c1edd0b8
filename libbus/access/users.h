/* access/users.h: the users file: names, and the keys that their passwords are checked against.
 *
 * One user a line; empty lines and lines that begin with # are ignored. $ separates the fields of a password, and flags follow
 * after a colon:
 *   NAME:$scram-sha-512$ITERATIONS$SALT$STOREDKEY$SERVERKEY[:FLAG,...]    of `libbus user add`; the last three in base64
 *   NAME:$7$ITERATIONS$SALT$HASH[:FLAG,...]                               of mosquitto_passwd; PBKDF2 over SHA-512
 * The one flag is "clear-text": protocols that send the password itself may use the user, also without TLS. The file holds no
 * password, but a reader can guess passwords offline, and can log in with a $7$ line: its mode must be 0600. */
#ifndef BUS_ACCESS_USERS_H
#define BUS_ACCESS_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access/scram_keys.h"

enum {
	BUS__USER_NAME = 64, /* bytes at most */
	BUS__USERS_MOST = 10000,
	BUS__USER_LINE = 1024,    /* bytes of a line at most */
	BUS__ITERATIONS = 100000, /* of new entries; so is the next one */
	BUS__NEW_SALT = 16,
};

struct bus__user {
	char name[BUS__USER_NAME + 1];
	bool clear_text; /* a protocol without TLS that sends the password may use it */
	struct bus__salting salting;
	uint8_t stored_key[BUS__SHA512], server_key[BUS__SHA512];
};

/* All users of one file at the time of reading. Immutable, with a reference count. */
struct bus__users;

/* Reads a file. BUS_E_INVAL (a bad line), BUS_E_DENIED (other users may read it), BUS_E_LIMIT, BUS_E_NOMEM, BUS_E_NOTSUP (no
 * mbedTLS), BUS_E_SYS (errno), each with its sentence, which names the line and never quotes a password's fields.
 * Threads: any.  Blocks: for the file. */
int bus__users_load(const char *path, struct bus__users **ret_users);

/* Take and release a reference. NULL is fine. Threads: any. */
struct bus__users *bus__users_take(struct bus__users *users);
void bus__users_drop(struct bus__users *users);

/* NULL: no user has this name. Lives as long as users. Threads: any. */
const struct bus__user *bus__users_find(
    const struct bus__users *users, const char *name, size_t name_len);

/* In name order. */
size_t bus__users_count(const struct bus__users *users);
const struct bus__user *bus__users_at(const struct bus__users *users, size_t i);

/* The salting of the first user that a handshake may use. Without one, that of new entries. */
const struct bus__salting *bus__users_salting(const struct bus__users *users);

/* Whether this can name a user: 1 to 64 bytes of UTF-8 without control characters, none of : / + #, no blank at its ends and no
 * leading $: names stand in this file, and as a level in topics of an ACL. */
bool bus__user_name_ok(const char *name, size_t len);

/* Whether this can be a password: 1 to 1,024 bytes of UTF-8 without control characters. */
bool bus__password_ok(const char *password, size_t len);

#endif
