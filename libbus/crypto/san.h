/* crypto/san.h: the names and addresses in a certificate (subjectAltName). mbedTLS 2.28 reads only names. */
#ifndef BUS_CRYPTO_SAN_H
#define BUS_CRYPTO_SAN_H

#include <stdbool.h>

#include "crypto/mbed.h"

enum bus__san_kind { BUS__SAN_DNS = 2, BUS__SAN_ADDRESS = 7 /* as X.509 numbers them */ };

struct bus__san {
	const unsigned char *at, *end; /* the rest to read */
	int kind; /* of the current one: enum bus__san_kind, or another number */
	const unsigned char *name;
	size_t len;
};

void bus__san_begin(const mbedtls_x509_crt *cert, struct bus__san *ret_san);

/* Moves to the next one. false: there is none. */
bool bus__san_next(struct bus__san *names);

/* Writes all of them, "pico.local, 192.168.1.4"; "..." replaces those without room. Without any, writes the common name. */
void bus__san_write(const mbedtls_x509_crt *cert, char *ret_text, size_t cap);

/* Writes the common name of a subject or issuer; "" if it has none. */
void bus__common_name(const mbedtls_x509_name *name, char *ret_text, size_t cap);

#endif
