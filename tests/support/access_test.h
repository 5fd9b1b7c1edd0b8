/* support/access_test.h: users files, and users with known passwords. */
#ifndef ACCESS_TEST_H
#define ACCESS_TEST_H

#include "bus_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/users.h"
#include "access/users_line.h"

/* Few iterations, so that tests take no time. */
enum { TEST_ITERATIONS = BUS__ITERATIONS_LEAST };

/* The path of a file in the test's directory. */
static inline const char *
users_path(void)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/users", bus_test_dir());
	return path;
}

static inline const char *
write_users(const char *text)
{
	int fd = open(users_path(), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return users_path();
}

/* The keys of a password. */
static inline void
keys_of(const char *password, const struct bus__salting *salting, struct bus__scram_keys *ret_keys)
{
	uint8_t salted[BUS__SHA512];

	ck_bus(bus__pbkdf2_sha512(password, strlen(password), salting->salt, salting->salt_len,
		   salting->iterations, NULL, NULL, salted),
	    0);
	ck_bus(bus__scram_keys(salted, ret_keys), 0);
}

/* A line for this user, in static storage. */
static inline const char *
line_of(const char *name, const char *password, bool clear_text)
{
	static char line[BUS__USER_LINE];
	struct bus__user user = {.clear_text = clear_text};
	struct bus__scram_keys keys;

	snprintf(user.name, sizeof user.name, "%s", name);
	user.salting.iterations = TEST_ITERATIONS;
	user.salting.salt_len = BUS__NEW_SALT;
	for (size_t i = 0; i < BUS__NEW_SALT; i++)
		user.salting.salt[i] = (uint8_t)(i * 7 + strlen(name));
	keys_of(password, &user.salting, &keys);
	ck_bus(bus__scram_stored_key(&keys, user.stored_key), 0);
	memcpy(user.server_key, keys.server, sizeof keys.server);
	bus__user_line_write(&user, line);
	return line;
}

#endif
