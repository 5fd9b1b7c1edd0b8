#include "access/scram.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "access/part.h"
#include "base/base64.h"
#include "base/random.h"
#include "base/secret.h"

enum {
	NONCE_LEAST = 16, /* characters of the peer's nonce: enough to be unguessable */
	OWN_NONCE = BUS__BASE64_LEN(BUS__SCRAM_RANDOM),
	PROOF = BUS__BASE64_LEN(BUS__SHA512),
	FAILED = 255, /* as a step */
};

static const char no_binding[] = "biws"; /* base64 of "n,," */

static const char *const texts[BUS__SCRAM_REASONS] = {
    [BUS__SCRAM_OK] = "accepted",
    [BUS__SCRAM_MALFORMED] = "the peer does not speak SCRAM-SHA-512",
    [BUS__SCRAM_BINDING] =
	"the peer asks for channel binding or another identity: neither is supported",
    [BUS__SCRAM_UNKNOWN_USER] = "no such user: libbus user add",
    [BUS__SCRAM_WEAK_ENTRY] =
	"too few iterations in the users file: set the password again with libbus user add",
    [BUS__SCRAM_WRONG_PASSWORD] = "wrong password",
    [BUS__SCRAM_FEW_ITERATIONS] =
	"the listener asks for fewer than 4096 iterations: set the password again there with libbus user add",
    [BUS__SCRAM_MANY_ITERATIONS] = "the listener asks for more than 1000000 iterations",
    [BUS__SCRAM_NOT_THE_SERVER] =
	"the listener does not know the password: check which program listens there",
    [BUS__SCRAM_REFUSED] = "the listener refused the user or the password",
    [BUS__SCRAM_SYSTEM] = "no mbedTLS, or no random bytes",
};

const char *
bus__scram_text(enum bus__scram_reason reason)
{
	return texts[reason];
}

/* --- both sides ---------------------------------------------------------------------------------------------------------- */

static int
fail(struct bus__scram *scram, enum bus__scram_reason *ret_reason, enum bus__scram_reason reason)
{
	scram->step = FAILED;
	*ret_reason = reason;
	return reason == BUS__SCRAM_MALFORMED ? BUS_E_PROTOCOL : BUS_E_AUTH;
}

static int
fail_system(struct bus__scram *scram, enum bus__scram_reason *ret_reason, int err)
{
	fail(scram, ret_reason, BUS__SCRAM_SYSTEM);
	return err;
}

/* Adds to the text that both sides sign: the three messages, separated by commas. */
static void
say(struct bus__scram *scram, const char *text, size_t len)
{
	if (scram->said_len > 0)
		scram->said[scram->said_len++] = ',';
	memcpy(scram->said + scram->said_len, text, len);
	scram->said_len = (uint16_t)(scram->said_len + len);
}

static struct bus__part
nonce_of(const struct bus__scram *scram)
{
	return (struct bus__part){scram->said + scram->nonce_at, scram->nonce_len};
}

static bool
same(struct bus__part a, struct bus__part b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Reads "X=value" up to a comma, or to the end. */
static bool
take(struct bus__part *rest, char letter, struct bus__part *ret_value)
{
	struct bus__part field = bus__part_cut(rest, ',');

	if (field.len < 2 || field.at[0] != letter || field.at[1] != '=')
		return false;
	*ret_value = (struct bus__part){field.at + 2, field.len - 2};
	return true;
}

static bool
is_nonce(struct bus__part part)
{
	if (part.len < NONCE_LEAST || part.len > BUS__SCRAM_NONCE)
		return false;
	for (size_t i = 0; i < part.len; i++)
		if (part.at[i] < '!' || part.at[i] > '~' || part.at[i] == ',')
			return false;
	return true;
}

static bool
read_digest(struct bus__part part, uint8_t ret_digest[BUS__SHA512])
{
	return part.len == PROOF &&
	       bus__base64_read(part.at, part.len, ret_digest, BUS__SHA512) == BUS__SHA512;
}

static int
sign(
    const struct bus__scram *scram, const uint8_t key[BUS__SHA512], uint8_t ret_digest[BUS__SHA512])
{
	return bus__hmac_sha512(key, BUS__SHA512, scram->said, scram->said_len, ret_digest);
}

static void
mix(uint8_t to[BUS__SHA512], const uint8_t with[BUS__SHA512])
{
	for (size_t i = 0; i < BUS__SHA512; i++)
		to[i] ^= with[i];
}

/* --- dialler -------------------------------------------------------------------------------------------------------------- */

enum { SAID_FIRST = 1, CHALLENGED, SAID_FINAL, VERIFIED };

/* Escapes the characters that end a field. */
static size_t
write_name(const char *name, char *ret_text)
{
	char *to = ret_text;

	for (; *name != '\0'; name++) {
		const char *escape = *name == ',' ? "=2C" : *name == '=' ? "=3D" : NULL;

		if (escape == NULL) {
			*to++ = *name;
			continue;
		}
		memcpy(to, escape, 3);
		to += 3;
	}
	return (size_t)(to - ret_text);
}

int
bus__scram_client_first_with(struct bus__scram_client *client, const char *user,
    const uint8_t random[BUS__SCRAM_RANDOM], char ret_message[BUS__SCRAM_MESSAGE])
{
	struct bus__scram *scram = &client->scram;
	size_t len = 3;

	memset(client, 0, sizeof *client);
	if (!bus__user_name_ok(user, strlen(user)))
		return fail_system(scram, &client->reason, BUS_E_INVAL);
	memcpy(ret_message, "n,,n=", 5);
	len = 5 + write_name(user, ret_message + 5);
	memcpy(ret_message + len, ",r=", 3);
	len += 3;
	bus__base64_write(random, BUS__SCRAM_RANDOM, ret_message + len);
	scram->nonce_at = (uint16_t)(len - 3);
	scram->nonce_len = OWN_NONCE;
	len += OWN_NONCE;
	say(scram, ret_message + 3, len - 3);
	scram->step = SAID_FIRST;
	return (int)len;
}

int
bus__scram_client_first(
    struct bus__scram_client *client, const char *user, char ret_message[BUS__SCRAM_MESSAGE])
{
	uint8_t random[BUS__SCRAM_RANDOM];
	int err = bus__digest_missing != NULL ? BUS_E_NOTSUP : bus__random(random, sizeof random);

	if (err < 0) {
		memset(client, 0, sizeof *client);
		return fail_system(&client->scram, &client->reason, err);
	}
	return bus__scram_client_first_with(client, user, random, ret_message);
}

int
bus__scram_client_challenge(struct bus__scram_client *client, const void *message, size_t len)
{
	struct bus__scram *scram = &client->scram;
	struct bus__part rest = {message, len}, nonce, salt, iterations, own = nonce_of(scram);
	int salt_len;

	if (scram->step != SAID_FIRST)
		return BUS_E_STATE;
	if (len > BUS__SCRAM_MESSAGE || !take(&rest, 'r', &nonce) || !take(&rest, 's', &salt) ||
	    !take(&rest, 'i', &iterations) || rest.at != NULL)
		return fail(scram, &client->reason, BUS__SCRAM_MALFORMED);
	if (nonce.len < own.len || memcmp(nonce.at, own.at, own.len) != 0 ||
	    !is_nonce((struct bus__part){nonce.at + own.len, nonce.len - own.len}))
		return fail(scram, &client->reason, BUS__SCRAM_MALFORMED);
	salt_len =
	    bus__base64_read(salt.at, salt.len, client->salting.salt, sizeof client->salting.salt);
	client->salting.iterations = bus__part_number(iterations, UINT32_MAX);
	if (salt_len <= 0 || client->salting.iterations == 0)
		return fail(scram, &client->reason, BUS__SCRAM_MALFORMED);
	client->salting.salt_len = (uint32_t)salt_len;
	if (client->salting.iterations < BUS__ITERATIONS_LEAST)
		return fail(scram, &client->reason, BUS__SCRAM_FEW_ITERATIONS);
	if (client->salting.iterations > BUS__ITERATIONS_MOST)
		return fail(scram, &client->reason, BUS__SCRAM_MANY_ITERATIONS);
	scram->nonce_at = (uint16_t)(scram->said_len + 1 + (nonce.at - (const char *)message));
	scram->nonce_len = (uint16_t)nonce.len;
	say(scram, message, len);
	scram->step = CHALLENGED;
	return 0;
}

int
bus__scram_client_final(struct bus__scram_client *client, const struct bus__scram_keys *keys,
    char ret_message[BUS__SCRAM_MESSAGE])
{
	struct bus__scram *scram = &client->scram;
	struct bus__part nonce = nonce_of(scram);
	uint8_t stored_key[BUS__SHA512], proof[BUS__SHA512];
	int len, err;

	if (scram->step != CHALLENGED)
		return BUS_E_STATE;
	len = snprintf(
	    ret_message, BUS__SCRAM_MESSAGE, "c=%s,r=%.*s", no_binding, (int)nonce.len, nonce.at);
	say(scram, ret_message, (size_t)len);
	err = bus__scram_stored_key(keys, stored_key);
	if (err == 0)
		err = sign(scram, stored_key, proof);
	if (err == 0)
		err = sign(scram, keys->server, client->signature);
	if (err < 0)
		return fail_system(scram, &client->reason, err);
	mix(proof, keys->client);
	memcpy(ret_message + len, ",p=", 3);
	len += 3 + (int)bus__base64_write(proof, sizeof proof, ret_message + len + 3);
	bus__wipe(stored_key, sizeof stored_key);
	scram->step = SAID_FINAL;
	return len;
}

int
bus__scram_client_verify(struct bus__scram_client *client, const void *message, size_t len)
{
	struct bus__scram *scram = &client->scram;
	struct bus__part rest = {message, len}, value;
	uint8_t signature[BUS__SHA512];

	if (scram->step != SAID_FINAL)
		return BUS_E_STATE;
	if (len <= BUS__SCRAM_MESSAGE && len > 2 && memcmp(message, "e=", 2) == 0)
		return fail(scram, &client->reason, BUS__SCRAM_REFUSED);
	if (!take(&rest, 'v', &value) || rest.at != NULL || !read_digest(value, signature))
		return fail(scram, &client->reason, BUS__SCRAM_MALFORMED);
	if (!bus__same_secret(signature, client->signature, sizeof signature))
		return fail(scram, &client->reason, BUS__SCRAM_NOT_THE_SERVER);
	scram->step = VERIFIED;
	return 0;
}

void
bus__scram_client_end(struct bus__scram_client *client)
{
	bus__wipe(&client->salting, sizeof client->salting);
	bus__wipe(client->signature, sizeof client->signature);
	bus__wipe(&client->scram, sizeof client->scram);
	client->scram.step = FAILED;
}

/* --- listener ------------------------------------------------------------------------------------------------------------- */

enum { SAID_CHALLENGE = 1, ACCEPTED };

/* The salts of unknown users are made from this. */
static struct {
	pthread_once_t once;
	int err;
	uint8_t bytes[BUS__SHA512];
} secret = {.once = PTHREAD_ONCE_INIT};

static void
make_secret(void)
{
	secret.err = bus__random(secret.bytes, sizeof secret.bytes);
}

static bool
read_name(struct bus__part part, char ret_name[BUS__USER_NAME + 1])
{
	size_t len = 0;

	for (size_t i = 0; i < part.len; i++) {
		char c = part.at[i];

		if (len == BUS__USER_NAME)
			return false;
		if (c == '=') {
			if (part.len - i < 3)
				return false;
			if (memcmp(part.at + i, "=2C", 3) == 0)
				c = ',';
			else if (memcmp(part.at + i, "=3D", 3) != 0)
				return false;
			i += 2;
		}
		ret_name[len++] = c;
	}
	ret_name[len] = '\0';
	return bus__user_name_ok(ret_name, len);
}

/* The salting of a user; for an unknown name, a stable made-up one. */
static int
salting_of(const struct bus__user *user, const struct bus__users *users, const char *name,
    struct bus__salting *ret_salting)
{
	uint8_t salt[BUS__SHA512];
	int err;

	pthread_once(&secret.once, make_secret);
	err = secret.err < 0
		  ? secret.err
		  : bus__hmac_sha512(secret.bytes, sizeof secret.bytes, name, strlen(name), salt);
	if (err < 0)
		return err;
	*ret_salting = *bus__users_salting(users);
	memcpy(ret_salting->salt, salt, ret_salting->salt_len);
	if (user != NULL && user->salting.iterations >= BUS__ITERATIONS_LEAST)
		*ret_salting = user->salting;
	return 0;
}

static enum bus__scram_reason
read_first(struct bus__scram_server *server, struct bus__part rest, struct bus__part *ret_bare,
    struct bus__part *ret_nonce)
{
	struct bus__part binding = bus__part_cut(&rest, ','), identity = bus__part_cut(&rest, ',');
	struct bus__part name;

	if (rest.at == NULL || binding.len == 0 || strchr("nyp", binding.at[0]) == NULL)
		return BUS__SCRAM_MALFORMED;
	if (!bus__part_is(binding, "n") || identity.len > 0)
		return BUS__SCRAM_BINDING;
	*ret_bare = rest;
	if (!take(&rest, 'n', &name) || !take(&rest, 'r', ret_nonce) || rest.at != NULL ||
	    !is_nonce(*ret_nonce) || !read_name(name, server->name))
		return BUS__SCRAM_MALFORMED;
	return BUS__SCRAM_OK;
}

int
bus__scram_server_first_with(struct bus__scram_server *server, const struct bus__users *users,
    const void *message, size_t len, const uint8_t random[BUS__SCRAM_RANDOM],
    char ret_message[BUS__SCRAM_MESSAGE])
{
	struct bus__scram *scram = &server->scram;
	struct bus__part bare, nonce;
	struct bus__salting salting;
	char own[OWN_NONCE + 1] = "", salt[BUS__BASE64_LEN(BUS__SALT) + 1];
	enum bus__scram_reason reason;
	int err, said;

	memset(server, 0, sizeof *server);
	reason = len > BUS__SCRAM_MESSAGE
		     ? BUS__SCRAM_MALFORMED
		     : read_first(server, (struct bus__part){message, len}, &bare, &nonce);
	if (reason != BUS__SCRAM_OK) {
		server->name[0] = '\0';
		return fail(scram, &server->reason, reason);
	}
	server->user = bus__users_find(users, server->name, strlen(server->name));
	err = salting_of(server->user, users, server->name, &salting);
	if (err < 0)
		return fail_system(scram, &server->reason, err);
	bus__base64_write(random, BUS__SCRAM_RANDOM, own);
	salt[bus__base64_write(salting.salt, salting.salt_len, salt)] = '\0';
	said = snprintf(ret_message, BUS__SCRAM_MESSAGE, "r=%.*s%s,s=%s,i=%u", (int)nonce.len,
	    nonce.at, own, salt, (unsigned)salting.iterations);
	say(scram, bare.at, bare.len);
	scram->nonce_at = (uint16_t)(scram->said_len + 1 + 2);
	scram->nonce_len = (uint16_t)(nonce.len + OWN_NONCE);
	say(scram, ret_message, (size_t)said);
	scram->step = SAID_CHALLENGE;
	return said;
}

int
bus__scram_server_first(struct bus__scram_server *server, const struct bus__users *users,
    const void *message, size_t len, char ret_message[BUS__SCRAM_MESSAGE])
{
	uint8_t random[BUS__SCRAM_RANDOM];
	int err = bus__random(random, sizeof random);

	if (err < 0) {
		memset(server, 0, sizeof *server);
		return fail_system(&server->scram, &server->reason, err);
	}
	return bus__scram_server_first_with(server, users, message, len, random, ret_message);
}

/* Why a proof is refused, or OK. An unknown user costs the same work. */
static enum bus__scram_reason
judge(const struct bus__scram_server *server, const uint8_t proof[BUS__SHA512])
{
	const struct bus__user *user = server->user;
	const uint8_t *stored_key = user != NULL ? user->stored_key : secret.bytes;
	struct bus__scram_keys keys;
	uint8_t stored_by_proof[BUS__SHA512];
	bool right;
	int err = sign(&server->scram, stored_key, keys.client);

	mix(keys.client, proof);
	if (err == 0)
		err = bus__scram_stored_key(&keys, stored_by_proof);
	right = err == 0 && bus__same_secret(stored_by_proof, stored_key, BUS__SHA512);
	bus__wipe(&keys, sizeof keys);
	if (err < 0)
		return BUS__SCRAM_SYSTEM;
	if (user == NULL)
		return BUS__SCRAM_UNKNOWN_USER;
	if (user->salting.iterations < BUS__ITERATIONS_LEAST)
		return BUS__SCRAM_WEAK_ENTRY;
	return right ? BUS__SCRAM_OK : BUS__SCRAM_WRONG_PASSWORD;
}

int
bus__scram_server_final(struct bus__scram_server *server, const void *message, size_t len,
    char ret_message[BUS__SCRAM_MESSAGE])
{
	struct bus__scram *scram = &server->scram;
	struct bus__part rest = {message, len}, binding, nonce, proof;
	uint8_t proof_bytes[BUS__SHA512], signature[BUS__SHA512];
	enum bus__scram_reason reason;
	int err;

	if (scram->step != SAID_CHALLENGE)
		return BUS_E_STATE;
	if (len > BUS__SCRAM_MESSAGE || !take(&rest, 'c', &binding) || !take(&rest, 'r', &nonce) ||
	    !take(&rest, 'p', &proof) || rest.at != NULL || !same(nonce, nonce_of(scram)) ||
	    !read_digest(proof, proof_bytes))
		return fail(scram, &server->reason, BUS__SCRAM_MALFORMED);
	if (!bus__part_is(binding, no_binding))
		return fail(scram, &server->reason, BUS__SCRAM_BINDING);
	say(scram, message, len - proof.len - 3); /* without ",p=…" */
	reason = judge(server, proof_bytes);
	if (reason != BUS__SCRAM_OK)
		return fail(scram, &server->reason, reason);
	err = sign(scram, server->user->server_key, signature);
	if (err < 0)
		return fail_system(scram, &server->reason, err);
	memcpy(ret_message, "v=", 2);
	scram->step = ACCEPTED;
	return 2 + (int)bus__base64_write(signature, sizeof signature, ret_message + 2);
}

void
bus__scram_server_end(struct bus__scram_server *server)
{
	server->user = NULL;
	bus__wipe(&server->scram, sizeof server->scram);
	server->scram.step = FAILED;
}
