/* crypto/digest.h in a libbus that was built without mbedTLS: each use names the missing package. */
#include "crypto/digest.h"

#include <libbus/error.h>

const char *const bus__digest_missing =
    "this libbus was built without mbedTLS: install libmbedtls-dev (Debian, Ubuntu), mbedtls-devel (Fedora), mbedtls-dev (Alpine) or mbedtls (Arch), then build libbus again";

int
bus__sha512(const void *data, size_t len, uint8_t ret_digest[BUS__SHA512])
{
	(void)data;
	(void)len;
	(void)ret_digest;
	return BUS_E_NOTSUP;
}

int
bus__hmac_sha512(
    const void *key, size_t key_len, const void *data, size_t len, uint8_t ret_digest[BUS__SHA512])
{
	(void)key;
	(void)key_len;
	return bus__sha512(data, len, ret_digest);
}

int
bus__pbkdf2_sha512(const void *password, size_t password_len, const void *salt, size_t salt_len,
    uint32_t iterations, bool (*go_on)(void *arg), void *arg, uint8_t ret_digest[BUS__SHA512])
{
	(void)salt;
	(void)salt_len;
	(void)iterations;
	(void)go_on;
	(void)arg;
	return bus__sha512(password, password_len, ret_digest);
}
