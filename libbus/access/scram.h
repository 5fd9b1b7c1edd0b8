/* access/scram.h: SCRAM-SHA-512 (RFC 5802) as two engines without I/O. Each step takes the peer's message and makes the next.
 *
 *   dialler                                              listener
 *   bus__scram_client_first()     -- client-first -->    bus__scram_server_first()
 *   bus__scram_client_challenge() <-- server-first --
 *   (keys: access/hasher.h)
 *   bus__scram_client_final()     -- client-final -->    bus__scram_server_final()
 *   bus__scram_client_verify()    <-- server-final --
 *
 * Both sides are libbus, so only the plain form is accepted: no channel binding ("n,,"), no authorization identity, no extensions. A
 * name is compared by its bytes: neither NFC nor another step of SASLprep is applied, and control characters are refused.
 *
 * No step blocks or allocates. An engine is used once, on one thread at a time. After an error its only further call is
 * bus__scram_*_end(), which wipes it. `reason` then says why, for this side's log only; the peer learns just that it was refused. */
#ifndef BUS_ACCESS_SCRAM_H
#define BUS_ACCESS_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access/scram_keys.h"
#include "access/users.h"

enum {
	BUS__SCRAM_MESSAGE = 512, /* bytes of any message at most */
	BUS__SCRAM_RANDOM = 24,   /* bytes of a nonce */
	BUS__SCRAM_NONCE = 128,   /* characters of the peer's nonce at most */
};

enum bus__scram_reason {
	BUS__SCRAM_OK,
	BUS__SCRAM_MALFORMED, /* not SCRAM, or not the message that this step expects */
	BUS__SCRAM_BINDING, /* the client wants channel binding, or an identity that is not its own */
	BUS__SCRAM_UNKNOWN_USER, /* reported only after the proof, like the next two */
	BUS__SCRAM_WEAK_ENTRY, /* the user's entry has fewer than 4,096 iterations, which every client refuses */
	BUS__SCRAM_WRONG_PASSWORD,
	BUS__SCRAM_FEW_ITERATIONS, /* the listener asks for so few that an eavesdropper could guess the password */
	BUS__SCRAM_MANY_ITERATIONS,
	BUS__SCRAM_NOT_THE_SERVER, /* the listener does not know the password */
	BUS__SCRAM_REFUSED,        /* the listener refused: e= */
	BUS__SCRAM_SYSTEM,         /* no random bytes, no mbedTLS */
	BUS__SCRAM_REASONS
};

/* As in "user \"pico\": wrong password". */
const char *bus__scram_text(enum bus__scram_reason reason);

/* Part of both engines: the messages so far, which the proofs sign. */
struct bus__scram {
	uint8_t step; /* the number of steps done; 255: failed */
	uint16_t said_len;
	uint16_t nonce_at, nonce_len; /* in said: the client's nonce, then both together */
	char said[3 * BUS__SCRAM_MESSAGE];
};

struct bus__scram_client {
	enum bus__scram_reason reason;
	struct bus__salting
	    salting; /* after bus__scram_client_challenge(): how the keys are made */
	uint8_t signature[BUS__SHA512];
	struct bus__scram scram;
};

struct bus__scram_server {
	enum bus__scram_reason reason;
	/* The name that the client gave, known or not; "" before bus__scram_server_first(). */
	char name[BUS__USER_NAME + 1];
	/* That user; NULL: unknown. The client has proved it once bus__scram_server_final() returned a message. */
	const struct bus__user *user;
	struct bus__scram scram;
};

/* Each step that makes a message returns its length, the others return 0. Errors: BUS_E_PROTOCOL (malformed), BUS_E_AUTH (refused),
 * BUS_E_INVAL (user: not a name), BUS_E_STATE (not the next step); BUS_E_NOTSUP (no mbedTLS), BUS_E_SYS (no random bytes).
 * Messages have no NUL byte behind them. */

int bus__scram_client_first(
    struct bus__scram_client *client, const char *user, char ret_message[BUS__SCRAM_MESSAGE]);
int bus__scram_client_challenge(struct bus__scram_client *client, const void *message, size_t len);
int bus__scram_client_final(struct bus__scram_client *client, const struct bus__scram_keys *keys,
    char ret_message[BUS__SCRAM_MESSAGE]);
int bus__scram_client_verify(struct bus__scram_client *client, const void *message, size_t len);
void bus__scram_client_end(struct bus__scram_client *client);

/* The caller keeps `users` until the end of the engine. An unknown user gets a salt that is constant in this process, and is
 * refused at the second step, like a wrong password. */
int bus__scram_server_first(struct bus__scram_server *server, const struct bus__users *users,
    const void *message, size_t len, char ret_message[BUS__SCRAM_MESSAGE]);
int bus__scram_server_final(struct bus__scram_server *server, const void *message, size_t len,
    char ret_message[BUS__SCRAM_MESSAGE]);
void bus__scram_server_end(struct bus__scram_server *server);

/* Tests: the same first steps with a nonce that is not random. */
int bus__scram_client_first_with(struct bus__scram_client *client, const char *user,
    const uint8_t random[BUS__SCRAM_RANDOM], char ret_message[BUS__SCRAM_MESSAGE]);
int bus__scram_server_first_with(struct bus__scram_server *server, const struct bus__users *users,
    const void *message, size_t len, const uint8_t random[BUS__SCRAM_RANDOM],
    char ret_message[BUS__SCRAM_MESSAGE]);

#endif
