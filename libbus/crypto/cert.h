/* crypto/cert.h: makes certificates: a private CA, and certificates that it signs. Keys are of P-256. */
#ifndef BUS_CRYPTO_CERT_H
#define BUS_CRYPTO_CERT_H

#include <stddef.h>
#include <time.h>

enum bus__cert_kind { BUS__CERT_CA, BUS__CERT_SERVER, BUS__CERT_CLIENT };

struct bus__cert_order {
	enum bus__cert_kind kind;
	const char *name; /* its common name: 1 to 64 of A-Z, a-z, 0-9, space, '.', '-' and '_' */
	const char *const *hosts; /* the names and addresses in it */
	size_t host_count;
	time_t from, to;
};

/* PEM texts. */
struct bus__cert_pair {
	char *cert, *key;
};

/* Makes a key and its certificate, signed by the issuer; issuer NULL: by itself. 0; BUS_E_INVAL: the name or a host cannot be
 * written; BUS_E_TLS: the issuer is no CA with its key; BUS_E_NOMEM, BUS_E_SYS.
 * Threads: any.  Blocks: for milliseconds of CPU. */
int bus__cert_make(const struct bus__cert_order *order, const struct bus__cert_pair *issuer,
    struct bus__cert_pair *ret_pair);

/* Wipes and frees both texts. */
void bus__cert_pair_free(struct bus__cert_pair *pair);

#endif
