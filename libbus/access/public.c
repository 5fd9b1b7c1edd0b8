/* The calls of libbus/access.h, by which programs edit and read the users file. */
#include <libbus/access.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <libbus/error.h>

#include "access/users.h"
#include "access/users_file.h"
#include "access/users_line.h"
#include "base/config_path.h"
#include "base/error_text.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/secret.h"

/* --- the path of the file ------------------------------------------------------------------------------------------------ */

/* The caller frees it by bus__free(). */
static int
path_of(const char *file, char **ret_path)
{
	if (file == NULL)
		return bus__config_path("users", ret_path);
	*ret_path = bus__strdup(file);
	return *ret_path != NULL ? 0 : bus__fail_about(BUS_E_NOMEM, file);
}

int
bus_users_file(char *ret_path, size_t cap)
{
	char *path;
	size_t len;
	int err;

	if (ret_path == NULL)
		return bus__answer(BUS_E_INVAL);
	err = bus__config_path("users", &path);
	if (err < 0)
		return err;
	len = strlen(path);
	if (len < cap)
		memcpy(ret_path, path, len + 1);
	bus__free(path);
	return len < cap ? (int)len : bus__answer(BUS_E_LIMIT);
}

static int
check_name(const char *name)
{
	if (name != NULL && bus__user_name_ok(name, strlen(name)))
		return 0;
	return bus__fail(BUS_E_INVAL,
	    "the name of a user has 1 to 64 bytes of text without : / + #, no blank at its ends and no $ in front");
}

static int
check_password(const char *password)
{
	if (password != NULL && bus__password_ok(password, strlen(password)))
		return 0;
	return bus__fail(BUS_E_INVAL,
	    "a password has 1 to 1024 bytes of text in one line, without control characters");
}

/* --- one user ------------------------------------------------------------------------------------------------------------ */

static int
keys_of(const char *password, const struct bus__salting *salting, struct bus__scram_keys *ret_keys)
{
	uint8_t salted[BUS__SHA512];
	int err = bus__pbkdf2_sha512(password, strlen(password), salting->salt, salting->salt_len,
	    salting->iterations, NULL, NULL, salted);

	if (err == 0)
		err = bus__scram_keys(salted, ret_keys);
	bus__wipe(salted, sizeof salted);
	return err;
}

static int
fail_digest(int err)
{
	return err == BUS_E_NOTSUP ? bus__fail(err, "%s", bus__digest_missing) : bus__answer(err);
}

static int
make_user(const char *name, const char *password, uint32_t flags, struct bus__user *ret_user)
{
	struct bus__scram_keys keys;
	int err;

	memset(ret_user, 0, sizeof *ret_user);
	strcpy(ret_user->name, name);
	ret_user->clear_text = (flags & BUS_USER_CLEAR_TEXT) != 0;
	ret_user->salting.iterations = BUS__ITERATIONS;
	ret_user->salting.salt_len = BUS__NEW_SALT;
	err = bus__random(ret_user->salting.salt, BUS__NEW_SALT);
	if (err == 0)
		err = keys_of(password, &ret_user->salting, &keys);
	if (err == 0)
		err = bus__scram_stored_key(&keys, ret_user->stored_key);
	if (err < 0)
		return fail_digest(err);
	memcpy(ret_user->server_key, keys.server, sizeof keys.server);
	bus__wipe(&keys, sizeof keys);
	return 0;
}

/* line NULL: removes the user. */
static int
edit(const char *file, const char *name, const char *line, size_t len)
{
	char *path;
	int err = path_of(file, &path);

	if (err < 0)
		return err;
	if (file == NULL && line != NULL) {
		err = bus__config_make(path);
		if (err < 0)
			bus__fail_about(err, path);
	}
	if (err == 0)
		err = bus__users_edit(path, name, line, len);
	bus__free(path);
	return err;
}

int
bus_user_set(const char *file, const char *name, const char *password, uint32_t flags)
{
	struct bus__user user;
	char line[BUS__USER_LINE];
	int err = check_name(name);

	if (err == 0)
		err = check_password(password);
	if (err < 0)
		return err;
	if ((flags & ~(uint32_t)BUS_USER_CLEAR_TEXT) != 0)
		return bus__fail(
		    BUS_E_INVAL, "flags may have BUS_USER_CLEAR_TEXT and nothing else");
	err = make_user(name, password, flags, &user);
	if (err == 0)
		err = edit(file, name, line, bus__user_line_write(&user, line));
	bus__wipe(&user, sizeof user);
	bus__wipe(line, sizeof line);
	return err;
}

int
bus_user_remove(const char *file, const char *name)
{
	int err = check_name(name);

	return err < 0 ? err : edit(file, name, NULL, 0);
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

/* *ret_users NULL: there is no file. */
static int
load(const char *file, struct bus__users **ret_users)
{
	char *path;
	int err = path_of(file, &path);

	*ret_users = NULL;
	if (err < 0)
		return err;
	err = bus__users_load(path, ret_users);
	if (err == BUS_E_SYS && errno == ENOENT)
		err = 0;
	bus__free(path);
	return err;
}

static int
check(const struct bus__users *users, const char *name, const char *password)
{
	const struct bus__user *user =
	    users != NULL ? bus__users_find(users, name, strlen(name)) : NULL;
	struct bus__scram_keys keys;
	uint8_t stored_key[BUS__SHA512];
	bool right;
	int err;

	if (user == NULL)
		return bus__fail(BUS_E_AUTH, "%s: no such user: add it with libbus user add", name);
	err = keys_of(password, &user->salting, &keys);
	if (err == 0)
		err = bus__scram_stored_key(&keys, stored_key);
	if (err < 0)
		return fail_digest(err);
	right = bus__same_secret(stored_key, user->stored_key, sizeof stored_key);
	bus__wipe(&keys, sizeof keys);
	return right ? 0 : bus__fail(BUS_E_AUTH, "%s: wrong password", name);
}

int
bus_user_check(const char *file, const char *name, const char *password)
{
	struct bus__users *users;
	int err = check_name(name);

	if (err == 0)
		err = check_password(password);
	if (err == 0)
		err = load(file, &users);
	if (err < 0)
		return err;
	err = check(users, name, password);
	bus__users_drop(users);
	return err;
}

int
bus_users_each(
    const char *file, void (*each)(void *arg, const char *name, uint32_t flags), void *arg)
{
	struct bus__users *users;
	size_t count;
	int err = each != NULL ? load(file, &users) : bus__answer(BUS_E_INVAL);

	if (err < 0)
		return err;
	count = users != NULL ? bus__users_count(users) : 0;
	for (size_t i = 0; i < count; i++) {
		const struct bus__user *user = bus__users_at(users, i);
		bool weak = user->salting.iterations < BUS__ITERATIONS_LEAST;

		each(arg, user->name,
		    (user->clear_text ? BUS_USER_CLEAR_TEXT : 0u) | (weak ? BUS_USER_WEAK : 0u));
	}
	bus__users_drop(users);
	return (int)count;
}
