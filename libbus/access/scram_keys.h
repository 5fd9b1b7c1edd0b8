/* access/scram_keys.h: from a password to the keys of SCRAM (RFC 5802, section 3). */
#ifndef BUS_ACCESS_SCRAM_KEYS_H
#define BUS_ACCESS_SCRAM_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/digest.h"

enum {
	BUS__PASSWORD = 1024, /* bytes at most */
	BUS__SALT = 64,       /* the same */
	BUS__ITERATIONS_LEAST = 4096,
	BUS__ITERATIONS_MOST = 1000000, /* the most that a listener may make a dialler compute */
};

/* How a password is hashed. */
struct bus__salting {
	uint32_t iterations;
	uint32_t salt_len;
	uint8_t salt[BUS__SALT];
};

/* The dialler's keys, from a salted password. */
struct bus__scram_keys {
	uint8_t client[BUS__SHA512], server[BUS__SHA512];
};

/* From the result of PBKDF2. Errors as in crypto/digest.h. */
int bus__scram_keys(const uint8_t salted[BUS__SHA512], struct bus__scram_keys *ret_keys);

/* The listener's form of the client's key. The same errors. */
int bus__scram_stored_key(const struct bus__scram_keys *keys, uint8_t ret_stored_key[BUS__SHA512]);

#endif
