#include "crypto/digest.h"

#include <string.h>

#include <mbedtls/sha512.h>
#include <mbedtls/version.h>

#include <libbus/error.h>

#include "base/secret.h"

#if MBEDTLS_VERSION_MAJOR < 3 /* where those without _ret answer nothing */
#define sha512_starts mbedtls_sha512_starts_ret
#define sha512_update mbedtls_sha512_update_ret
#define sha512_finish mbedtls_sha512_finish_ret
#else
#define sha512_starts mbedtls_sha512_starts
#define sha512_update mbedtls_sha512_update
#define sha512_finish mbedtls_sha512_finish
#endif

enum {
	SHA512_BLOCK = 128,
	ROUND = 1024, /* iterations between two looks at go_on(): about a millisecond */
};

const char *const bus__digest_missing;

int
bus__sha512(const void *data, size_t len, uint8_t ret_digest[BUS__SHA512])
{
	mbedtls_sha512_context ctx;
	int err;

	mbedtls_sha512_init(&ctx);
	err = sha512_starts(&ctx, 0);
	if (err == 0)
		err = sha512_update(&ctx, data, len);
	if (err == 0)
		err = sha512_finish(&ctx, ret_digest);
	mbedtls_sha512_free(&ctx);
	return err == 0 ? 0 : BUS_E_SYS;
}

/* HMAC (RFC 2104) is two digests, whose first block depends only on the key. It is hashed once for all texts, so an iteration
 * of PBKDF2 costs two blocks; mbedtls_pkcs5_pbkdf2_hmac() hashes four. */
struct keyed {
	mbedtls_sha512_context inner, outer;
};

static int
begin(mbedtls_sha512_context *ret_ctx, const uint8_t key[SHA512_BLOCK], uint8_t pad)
{
	uint8_t block[SHA512_BLOCK];
	int err;

	for (size_t i = 0; i < sizeof block; i++)
		block[i] = key[i] ^ pad;
	mbedtls_sha512_init(ret_ctx);
	err = sha512_starts(ret_ctx, 0);
	if (err == 0)
		err = sha512_update(ret_ctx, block, sizeof block);
	bus__wipe(block, sizeof block);
	return err;
}

/* Call unkey() afterwards, also after an error. */
static int
key(struct keyed *ret_keyed, const void *key, size_t len)
{
	uint8_t block[SHA512_BLOCK] = {0};
	int err = 0, err_inner, err_outer;

	if (len > sizeof block)
		err = bus__sha512(key, len, block);
	else if (len > 0)
		memcpy(block, key, len);
	err_inner = begin(&ret_keyed->inner, block, 0x36);
	err_outer = begin(&ret_keyed->outer, block, 0x5c);
	bus__wipe(block, sizeof block);
	return err != 0 ? err : err_inner != 0 ? err_inner : err_outer;
}

static void
unkey(struct keyed *keyed)
{
	mbedtls_sha512_free(&keyed->inner);
	mbedtls_sha512_free(&keyed->outer);
}

/* ret_digest may be the text. */
static int
end(const mbedtls_sha512_context *begun, const void *text, size_t len, const void *more,
    size_t more_len, uint8_t ret_digest[BUS__SHA512])
{
	mbedtls_sha512_context ctx;
	int err;

	mbedtls_sha512_init(&ctx);
	mbedtls_sha512_clone(&ctx, begun);
	err = sha512_update(&ctx, text, len);
	if (err == 0 && more_len > 0)
		err = sha512_update(&ctx, more, more_len);
	if (err == 0)
		err = sha512_finish(&ctx, ret_digest);
	mbedtls_sha512_free(&ctx);
	return err;
}

static int
mac(const struct keyed *keyed, const void *text, size_t len, const void *more, size_t more_len,
    uint8_t ret_digest[BUS__SHA512])
{
	int err = end(&keyed->inner, text, len, more, more_len, ret_digest);

	return err != 0 ? err : end(&keyed->outer, ret_digest, BUS__SHA512, NULL, 0, ret_digest);
}

int
bus__hmac_sha512(const void *secret, size_t secret_len, const void *data, size_t len,
    uint8_t ret_digest[BUS__SHA512])
{
	struct keyed keyed;
	int err = key(&keyed, secret, secret_len);

	if (err == 0)
		err = mac(&keyed, data, len, NULL, 0, ret_digest);
	unkey(&keyed);
	return err == 0 ? 0 : BUS_E_SYS;
}

int
bus__pbkdf2_sha512(const void *password, size_t password_len, const void *salt, size_t salt_len,
    uint32_t iterations, bool (*go_on)(void *arg), void *arg, uint8_t ret_digest[BUS__SHA512])
{
	static const uint8_t first_block[] = {0, 0, 0, 1};
	struct keyed keyed;
	uint8_t u[BUS__SHA512], sum[BUS__SHA512];
	int err = key(&keyed, password, password_len);
	bool stopped = false;

	if (err == 0)
		err = mac(&keyed, salt, salt_len, first_block, sizeof first_block, u);
	memcpy(sum, u, sizeof sum);
	for (uint32_t i = 1; i < iterations && err == 0 && !stopped; i++) {
		err = mac(&keyed, u, sizeof u, NULL, 0, u);
		for (size_t at = 0; at < sizeof sum; at++)
			sum[at] ^= u[at];
		stopped = i % ROUND == 0 && go_on != NULL && !go_on(arg);
	}
	if (err == 0 && !stopped)
		memcpy(ret_digest, sum, sizeof sum);
	bus__wipe(u, sizeof u);
	bus__wipe(sum, sizeof sum);
	unkey(&keyed);
	return err != 0 ? BUS_E_SYS : stopped ? BUS_E_CLOSED : 0;
}
