/* crypto/mbed.h: the differences between mbedTLS 2.28 and 3.6, and what our files on it share. */
#ifndef BUS_CRYPTO_MBED_H
#define BUS_CRYPTO_MBED_H

/* 3.6 has no function for one field that we read: the number of an alert. */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

/* Unguessable numbers, from the system each time: no state that a fork could copy. For mbedTLS. */
int bus__mbed_random(void *none, unsigned char *ret_bytes, size_t len);

/* Call before the first use in a process; 3.6 has global state. 0 or an error of mbedTLS. Threads: any. */
int bus__mbed_begin(void);

/* Parses a private key: DER, or PEM text whose len counts its NUL. */
int bus__mbed_parse_key(mbedtls_pk_context *ret_key, const unsigned char *data, size_t len);

/* Whether a key is one of elliptic curves. */
bool bus__mbed_is_ec(const mbedtls_pk_context *key);

/* 0: the keys are a pair; otherwise an error of mbedTLS. */
int bus__mbed_check_pair(const mbedtls_pk_context *public_key, const mbedtls_pk_context *key);

/* Whether the error is only a lack of memory. */
bool bus__mbed_is_no_memory(int err);

/* An error of mbedTLS in its own words. */
void bus__mbed_words(int err, char *ret_text, size_t cap);

#endif
