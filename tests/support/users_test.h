/* support/users_test.h: files of users, as `libbus user` writes them. */
#ifndef USERS_TEST_H
#define USERS_TEST_H

#include "bus_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "access/scram_keys.h"
#include "base/base64.h"
#include "crypto/digest.h"

/* Adds a user, with the fewest iterations there may be. */
static inline void
add_user(const char *path, const char *name, const char *password)
{
	enum { SALT = 12, TEXT = BUS__BASE64_LEN(BUS__SHA512) };
	uint8_t salted[BUS__SHA512], stored[BUS__SHA512];
	char salt[TEXT], stored_text[TEXT], server_text[TEXT];
	struct bus__scram_keys keys;
	FILE *file = fopen(path, "a");

	ck_assert_ptr_nonnull(file);
	ck_bus(bus__pbkdf2_sha512(password, strlen(password), "salt of test", SALT,
		   BUS__ITERATIONS_LEAST, NULL, NULL, salted),
	    0);
	ck_bus(bus__scram_keys(salted, &keys), 0);
	ck_bus(bus__scram_stored_key(&keys, stored), 0);
	fprintf(file, "%s:$scram-sha-512$%d$%.*s$%.*s$%.*s\n", name, BUS__ITERATIONS_LEAST,
	    (int)bus__base64_write("salt of test", SALT, salt), salt,
	    (int)bus__base64_write(stored, sizeof stored, stored_text), stored_text,
	    (int)bus__base64_write(keys.server, sizeof keys.server, server_text), server_text);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(path, 0600), 0);
}

#endif
