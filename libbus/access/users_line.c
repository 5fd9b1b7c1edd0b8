#include "access/users_line.h"

#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "access/part.h"
#include "base/base64.h"
#include "base/secret.h"
#include "base/utf8.h"

/* --- names and passwords ------------------------------------------------------------------------------------------------ */

static bool
is_text(const char *text, size_t len, size_t most)
{
	if (len == 0 || len > most || !bus__utf8_valid(text, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return true;
}

bool
bus__user_name_ok(const char *name, size_t len)
{
	if (!is_text(name, len, BUS__USER_NAME))
		return false;
	for (size_t i = 0; i < len; i++)
		if (strchr(":/+#", name[i]) != NULL)
			return false;
	return name[0] != ' ' && name[len - 1] != ' ' && name[0] != '$';
}

bool
bus__password_ok(const char *password, size_t len)
{
	return is_text(password, len, BUS__PASSWORD);
}

size_t
bus__user_line_len(const char *line, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", line[len - 1]) != NULL && line[len - 1] != '\0')
		len--;
	return len > 0 && line[0] == '#' ? 0 : len;
}

size_t
bus__user_line_name(const char *line, size_t len)
{
	struct bus__part rest = {line, len}, name = bus__part_cut(&rest, ':');

	return name.len < len && bus__user_name_ok(name.at, name.len) ? name.len : 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static bool
read_digest(struct bus__part part, uint8_t ret_digest[BUS__SHA512])
{
	return bus__base64_read(part.at, part.len, ret_digest, BUS__SHA512) == BUS__SHA512;
}

static const char *
read_salting(const struct bus__part fields[2], uint32_t least, struct bus__salting *ret_salting)
{
	int salt_len = bus__base64_read(
	    fields[1].at, fields[1].len, ret_salting->salt, sizeof ret_salting->salt);

	ret_salting->iterations = bus__part_number(fields[0], BUS__ITERATIONS_MOST);
	if (ret_salting->iterations == 0)
		return "its iterations are not a number from 1 to 1000000";
	if (ret_salting->iterations < least)
		return "it has fewer than 4096 iterations, which every client refuses";
	if (salt_len <= 0)
		return "its salt is not base64 of 1 to 64 bytes";
	ret_salting->salt_len = (uint32_t)salt_len;
	return NULL;
}

static const char *
read_scram(const struct bus__part *fields, struct bus__user *ret_user, int *ret_err)
{
	const char *complaint = read_salting(fields, BUS__ITERATIONS_LEAST, &ret_user->salting);

	(void)ret_err;
	if (complaint != NULL)
		return complaint;
	if (!read_digest(fields[2], ret_user->stored_key) ||
	    !read_digest(fields[3], ret_user->server_key))
		return "its keys are not base64 of 64 bytes each";
	return NULL;
}

/* mosquitto_passwd stores the salted password, from which the keys are made. */
static const char *
read_mosquitto(const struct bus__part *fields, struct bus__user *ret_user, int *ret_err)
{
	const char *complaint = read_salting(fields, 1, &ret_user->salting);
	uint8_t salted[BUS__SHA512];
	struct bus__scram_keys keys = {0};
	int err;

	if (complaint != NULL)
		return complaint;
	if (!read_digest(fields[2], salted))
		return "its hash is not base64 of 64 bytes";
	err = bus__scram_keys(salted, &keys);
	if (err == 0)
		err = bus__scram_stored_key(&keys, ret_user->stored_key);
	memcpy(ret_user->server_key, keys.server, sizeof keys.server);
	bus__wipe(salted, sizeof salted);
	bus__wipe(&keys, sizeof keys);
	if (err == 0)
		return NULL;
	*ret_err = err;
	return err == BUS_E_NOTSUP ? bus__digest_missing : "hashing failed";
}

static const struct form {
	const char *name;
	size_t fields; /* behind the name */
	const char *(*read)(
	    const struct bus__part *fields, struct bus__user *ret_user, int *ret_err);
	const char *complaint; /* why the line is unreadable */
} forms[] = {
    {"scram-sha-512", 4, read_scram, NULL},
    {"7", 3, read_mosquitto, NULL},
    {"6", 0, NULL, "its $6$ hash is not supported"},
    {"argon2id", 0, NULL, "its $argon2id$ hash is not supported"},
};

enum { FIELDS_MOST = 4 };

static const struct form *
form_of(struct bus__part name)
{
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
		if (bus__part_is(name, forms[i].name))
			return &forms[i];
	return NULL;
}

static const char *
read_password(struct bus__part rest, struct bus__user *ret_user, int *ret_err)
{
	struct bus__part fields[FIELDS_MOST], before = bus__part_cut(&rest, '$');
	const struct form *form = form_of(bus__part_cut(&rest, '$'));
	size_t count = 0;

	if (before.len > 0 || form == NULL)
		return "neither $scram-sha-512$ nor $7$ follows the name";
	if (form->read == NULL)
		return form->complaint;
	while (rest.at != NULL && count < form->fields)
		fields[count++] = bus__part_cut(&rest, '$');
	if (count < form->fields || rest.at != NULL)
		return "it has too few fields or too many";
	return form->read(fields, ret_user, ret_err);
}

static const char *
read_flags(struct bus__part flags, struct bus__user *ret_user)
{
	while (flags.at != NULL) {
		if (!bus__part_is(bus__part_cut(&flags, ','), "clear-text"))
			return "a flag is unknown: clear-text is the only one";
		ret_user->clear_text = true;
	}
	return NULL;
}

int
bus__user_line_read(
    const char *line, size_t len, struct bus__user *ret_user, const char **ret_complaint)
{
	struct bus__part rest = {line, len}, password;
	size_t name_len = bus__user_line_name(line, len);
	int err = BUS_E_INVAL;

	*ret_complaint = "it is longer than 1024 bytes";
	if (len >= BUS__USER_LINE)
		return err;
	*ret_complaint = "it does not begin with a name and a colon";
	if (name_len == 0)
		return err;
	memset(ret_user, 0, sizeof *ret_user);
	memcpy(ret_user->name, line, name_len);
	bus__part_cut(&rest, ':');
	password = bus__part_cut(&rest, ':');
	*ret_complaint = read_password(password, ret_user, &err);
	if (*ret_complaint == NULL)
		*ret_complaint = read_flags(rest, ret_user);
	return *ret_complaint != NULL ? err : 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

size_t
bus__user_line_write(const struct bus__user *user, char ret_line[BUS__USER_LINE])
{
	char salt[BUS__BASE64_LEN(BUS__SALT) + 1], stored[BUS__BASE64_LEN(BUS__SHA512) + 1],
	    server[BUS__BASE64_LEN(BUS__SHA512) + 1];

	salt[bus__base64_write(user->salting.salt, user->salting.salt_len, salt)] = '\0';
	stored[bus__base64_write(user->stored_key, BUS__SHA512, stored)] = '\0';
	server[bus__base64_write(user->server_key, BUS__SHA512, server)] = '\0';
	return (size_t)snprintf(ret_line, BUS__USER_LINE, "%s:$scram-sha-512$%u$%s$%s$%s%s\n",
	    user->name, (unsigned)user->salting.iterations, salt, stored, server,
	    user->clear_text ? ":clear-text" : "");
}
