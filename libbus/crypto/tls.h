/* crypto/tls.h: TLS without I/O: ciphertext in, ciphertext out, plaintext between. The caller moves the bytes.
 *
 * A config is shared by connections: files that were read once. A tls is one connection. One thread at a time may use a tls, and
 * the connections of one config, whose key mbedTLS changes while it signs. */
#ifndef BUS_CRYPTO_TLS_H
#define BUS_CRYPTO_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct bus__tls_config;
struct bus__tls;

enum { BUS__TLS_REASON = 240 /* bytes of a reason, with its NUL */ };

struct bus__tls_settings {
	bool dials;
	const char *ca_file;   /* the CA of the peers; NULL: a listener demands no certificate */
	const char *cert_file; /* this side's certificate; NULL: a dialler sends none */
	const char *key_file;  /* NULL: in cert_file */
	const char
	    *psk_file; /* pre-shared keys instead of certificates; the other files are not read */
};

/* The part that this libbus lacks for TLS, as a sentence; NULL: none. */
extern const char *const bus__tls_missing;

/* Reads the files. 0; BUS_E_TLS, with the file and the reason as text; BUS_E_NOMEM, BUS_E_NOTSUP. The config has one reference.
 * Threads: any.  Blocks: for files. */
int bus__tls_config_new(const struct bus__tls_settings *settings,
    struct bus__tls_config **ret_config, char ret_reason[BUS__TLS_REASON]);

/* Threads: any, for both. */
struct bus__tls_config *bus__tls_config_ref(struct bus__tls_config *config);
void bus__tls_config_unref(struct bus__tls_config *config); /* NULL is fine */

/* Makes a connection, which takes its own reference to the config. host: the dialled name or address, which the peer's certificate
 * must contain; NULL when listening. 0, BUS_E_NOMEM. */
int bus__tls_new(struct bus__tls_config *config, const char *host, struct bus__tls **ret_tls);
void bus__tls_free(struct bus__tls *tls); /* NULL is fine */

/* Lends ciphertext of the peer, until bus__tls_unread() is 0. */
void bus__tls_feed(struct bus__tls *tls, const void *data, size_t len);
size_t bus__tls_unread(const struct bus__tls *tls);

/* The ciphertext to send to the peer. The caller owns it and frees it by bus__free(). NULL: none. After a failure it
 * tells the peer why. */
void *bus__tls_take(struct bus__tls *tls, size_t *ret_len);
bool bus__tls_has_output(const struct bus__tls *tls);

/* Continues the handshake. 1: done; 0: needs the peer's next bytes; BUS_E_TLS, BUS_E_NOMEM. Takes milliseconds of CPU. */
int bus__tls_handshake(struct bus__tls *tls);

/* After the handshake. Each returns how many bytes it moved; 0: needs more ciphertext (read). BUS_E_GONE: the peer has
 * closed; BUS_E_TLS, BUS_E_NOMEM. A write takes at most one record of 16 KiB. */
long bus__tls_read(struct bus__tls *tls, void *buf, size_t cap);
long bus__tls_write(struct bus__tls *tls, const void *data, size_t len);

/* Tells the peer that no more data follows. Ignores errors. */
void bus__tls_close(struct bus__tls *tls);

/* Why a call answered BUS_E_TLS, "certificate expired on 2026-01-02"; "" before that. Printable, without secrets. */
const char *bus__tls_reason(const struct bus__tls *tls);

/* The PSK identity of the peer, of a listener with a psk_file, after the handshake; "" otherwise. */
const char *bus__tls_identity(const struct bus__tls *tls);

#endif
