/* crypto/digest.h: the digests for passwords. A libbus without mbedTLS has without_digest.c, whose computing calls
 * answer BUS_E_NOTSUP. */
#ifndef BUS_CRYPTO_DIGEST_H
#define BUS_CRYPTO_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUS__SHA512 = 64 /* bytes of each digest here */ };

/* The package that this libbus lacks, as a sentence; NULL: none. */
extern const char *const bus__digest_missing;

/* Each: 0, BUS_E_NOTSUP (no mbedTLS), BUS_E_SYS (hashing hardware failed). None allocates.
 * Threads: any.  Blocks: never, except the last one. */
int bus__sha512(const void *data, size_t len, uint8_t ret_digest[BUS__SHA512]);
int bus__hmac_sha512(
    const void *key, size_t key_len, const void *data, size_t len, uint8_t ret_digest[BUS__SHA512]);

/* One block of PBKDF2 (RFC 8018) over HMAC-SHA-512. Takes about 0.7 µs an iteration on a desktop and twenty times that on the
 * smallest Pi: for access/hasher.c, not for the link thread. Asks go_on(arg) about every millisecond; false ends it with
 * BUS_E_CLOSED. go_on NULL: it runs to the end. */
int bus__pbkdf2_sha512(const void *password, size_t password_len, const void *salt, size_t salt_len,
    uint32_t iterations, bool (*go_on)(void *arg), void *arg, uint8_t ret_digest[BUS__SHA512]);

#endif
