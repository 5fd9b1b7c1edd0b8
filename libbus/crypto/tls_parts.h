/* crypto/tls_parts.h: shared by the files of crypto/tls.h: tls_config.c reads files, tls.c moves bytes, tls_words.c writes
 * reasons. */
#ifndef BUS_CRYPTO_TLS_PARTS_H
#define BUS_CRYPTO_TLS_PARTS_H

#include "crypto/mbed.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <mbedtls/ssl.h>

#include "crypto/psk.h"
#include "crypto/tls.h"

enum {
	BUS__TLS_CERTIFICATE_REQUIRED = 116, /* an alert of TLS 1.3 */
	BUS__TLS_RECORD_HEAD = 5
};

struct bus__tls_config {
	_Atomic uint32_t refs;
	bool dials;
	char *ca_file, *psk_file; /* for reasons; NULL: none */
	mbedtls_ssl_config conf;
	mbedtls_x509_crt ca, cert;
	mbedtls_pk_context key;
	struct bus__psk *keys;         /* of a psk_file */
	struct bus__tls *shaking_hand; /* the connection whose PSK identity is looked up */
};

struct bus__tls {
	struct bus__tls_config *config;
	mbedtls_ssl_context ssl;
	bool is_open; /* the handshake is done */
	bool failed;
	bool is_over;            /* the peer has closed */
	bool heard;              /* data arrived after the handshake */
	bool looked;             /* the first bytes were checked: they are TLS */
	const unsigned char *in; /* lent */
	size_t in_len;
	/* Of the last record: its head, and its body if that may be an alert in clear text. */
	unsigned char last_head[BUS__TLS_RECORD_HEAD], last_alert[2];
	unsigned char *out;
	size_t out_len, out_cap;
	char *host;               /* dialled; NULL: none */
	unsigned char number[16]; /* of a host that is an address */
	size_t number_len;        /* 4 or 16; 0: a name */
	char identity[BUS__PSK_IDENTITY];
	char verdict[BUS__TLS_REASON]; /* why the peer's certificate is refused */
	char reason[BUS__TLS_REASON];
};

/* For mbedtls_ssl_set_verify(): writes why a certificate is refused, and compares addresses. */
int bus__tls_look_at(void *tls, mbedtls_x509_crt *cert, int depth, uint32_t *flags);

/* Sets the reason for an error of mbedTLS. Returns BUS_E_TLS, or BUS_E_NOMEM. */
int bus__tls_fail(struct bus__tls *tls, int err);

/* The protocol of these first bytes; NULL: TLS, or unknown yet. */
const char *bus__tls_foreign(const unsigned char *data, size_t len);

/* Writes a date, 2026-01-02. */
void bus__tls_date(const mbedtls_x509_time *time, char ret_text[16]);

#endif
