/* support/tls_test.h: certificates for a test, in its directory, and two ends of TLS that meet in memory.
 *
 * make_ca("ca") writes ca.pem and ca-key.pem; make_cert("server", "ca", "pico.local") writes what the CA signs. */
#ifndef TLS_TEST_H
#define TLS_TEST_H

#include "bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "crypto/cert.h"
#include "crypto/tls.h"

enum { DAY = 24 * 60 * 60 };

/* --- files ---------------------------------------------------------------------------------------------------------------------- */

/* One of a few paths at a time. */
static inline char *
tls_path(const char *name, const char *suffix)
{
	static char paths[8][256];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s%s", bus_test_dir(), name, suffix);
	return path;
}

static inline char *
pem(const char *name)
{
	return tls_path(name, ".pem");
}

static inline char *
key_of(const char *name)
{
	return tls_path(name, "-key.pem");
}

static inline void
write_text(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static inline char *
read_text(const char *path)
{
	static const size_t most = 16384;
	char *text = calloc(1, most);
	FILE *file = fopen(path, "r");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_lt(fread(text, 1, most, file), most);
	fclose(file);
	return text;
}

static inline void
write_pair(const char *name, struct bus__cert_pair *pair)
{
	write_text(pem(name), pair->cert, 0644);
	write_text(key_of(name), pair->key, 0600);
	bus__cert_pair_free(pair);
}

/* Signed by the CA of that name; NULL: by itself. */
static inline void
make(const char *name, const char *ca, struct bus__cert_order order)
{
	struct bus__cert_pair pair, issuer = {NULL, NULL};
	time_t now = time(NULL);

	if (order.name == NULL)
		order.name = strrchr(name, '/') != NULL ? strrchr(name, '/') + 1 : name;
	order.from = order.from != 0 ? order.from : now - DAY;
	order.to = order.to != 0 ? order.to : now + 30 * DAY;
	if (ca != NULL)
		issuer = (struct bus__cert_pair){read_text(pem(ca)), read_text(key_of(ca))};
	ck_bus(bus__cert_make(&order, ca != NULL ? &issuer : NULL, &pair), 0);
	free(issuer.cert);
	free(issuer.key);
	write_pair(name, &pair);
}

static inline void
make_ca(const char *name)
{
	make(name, NULL, (struct bus__cert_order){.kind = BUS__CERT_CA});
}

#define make_cert(cert, ca, ...)                                                                   \
	make(cert, ca,                                                                             \
	    (struct bus__cert_order){.kind = BUS__CERT_SERVER,                                     \
		.hosts = (const char *const[]){__VA_ARGS__},                                       \
		.host_count = sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *)})

static inline void
make_client(const char *name, const char *ca)
{
	make(name, ca, (struct bus__cert_order){.kind = BUS__CERT_CLIENT});
}

/* --- two ends ------------------------------------------------------------------------------------------------------------------- */

static inline struct bus__tls_config *
config_of(const struct bus__tls_settings *settings)
{
	struct bus__tls_config *config;
	char reason[BUS__TLS_REASON] = "";
	int err = bus__tls_config_new(settings, &config, reason);

	ck_assert_msg(err == 0, "%s: %s", bus_errname(err), reason);
	return config;
}

/* One end, which holds the bytes that the other has for it. */
struct tls_end {
	struct bus__tls *tls;
	unsigned char *in; /* for it, not fed yet */
	size_t in_len, in_cap;
	int state; /* of its handshake: 1 done, 0 under way, an error */
};

static inline void
end_open(struct tls_end *end, const struct bus__tls_settings *settings, const char *host)
{
	struct bus__tls_config *config = config_of(settings);

	*end = (struct tls_end){.state = 0};
	ck_bus(bus__tls_new(config, host, &end->tls), 0);
	bus__tls_config_unref(config);
}

static inline void
end_close(struct tls_end *end)
{
	bus__tls_free(end->tls);
	free(end->in);
}

static inline void
end_hear(struct tls_end *end, const void *data, size_t len)
{
	if (end->in_len + len > end->in_cap) {
		end->in_cap = (end->in_len + len) * 2;
		end->in = realloc(end->in, end->in_cap);
		ck_assert_ptr_nonnull(end->in);
	}
	if (len > 0)
		memcpy(end->in + end->in_len, data, len);
	end->in_len += len;
}

/* What one has to say goes to the other. Returns how many bytes. */
static inline size_t
carry(struct tls_end *from, struct tls_end *to)
{
	size_t len;
	void *data = bus__tls_take(from->tls, &len);

	if (len > 0)
		end_hear(to, data, len);
	bus__free(data);
	return len;
}

/* A handshake goes on by at most `most` bytes. */
static inline void
shake(struct tls_end *end, size_t most)
{
	size_t n = end->in_len < most ? end->in_len : most;

	if (end->state != 0)
		return;
	bus__tls_feed(end->tls, end->in, n);
	end->state = bus__tls_handshake(end->tls);
	n -= bus__tls_unread(end->tls);
	bus__tls_feed(end->tls, NULL, 0);
	if (n > 0)
		memmove(end->in, end->in + n, end->in_len - n);
	end->in_len -= n;
}

/* Both shake hands until neither has anything more to say, `most` bytes at a time. */
static inline void
meet(struct tls_end *a, struct tls_end *b, size_t most)
{
	size_t moved;

	do {
		size_t before = a->in_len + b->in_len;

		shake(a, most);
		moved = carry(a, b);
		shake(b, most);
		moved += carry(b, a);
		moved += before != a->in_len + b->in_len;
	} while (moved > 0);
}

/* Sends data through, and checks that it arrives; `most` bytes of ciphertext at a time. */
static inline void
tell(struct tls_end *from, struct tls_end *to, const unsigned char *data, size_t len, size_t most)
{
	unsigned char *got = malloc(len + 1);
	size_t sent = 0, heard = 0, fed = 0;

	while (sent < len) {
		long n = bus__tls_write(from->tls, data + sent, len - sent);

		ck_assert_int_gt(n, 0);
		sent += (size_t)n;
	}
	carry(from, to);
	while (heard < len) {
		long n = bus__tls_read(to->tls, got + heard, len - heard);

		ck_assert_msg(n >= 0, "%s: %s", bus_errname((int)n), bus__tls_reason(to->tls));
		heard += (size_t)n;
		if (n == 0) {
			size_t part = to->in_len - fed < most ? to->in_len - fed : most;

			ck_assert_uint_eq(bus__tls_unread(to->tls), 0);
			ck_assert_uint_gt(part, 0);
			bus__tls_feed(to->tls, to->in + fed, part);
			fed += part;
		}
	}
	ck_assert_uint_eq(bus__tls_unread(to->tls), 0);
	ck_assert_uint_eq(fed, to->in_len);
	to->in_len = 0;
	ck_assert_mem_eq(got, data, len);
	free(got);
}

#define ck_reason(end, ...)                                                                        \
	do {                                                                                       \
		const char *const words_[] = {__VA_ARGS__};                                        \
		for (size_t i_ = 0; i_ < sizeof words_ / sizeof words_[0]; i_++)                   \
			ck_assert_msg(strstr(bus__tls_reason((end)->tls), words_[i_]) != NULL,     \
			    "it says \"%s\", without \"%s\"", bus__tls_reason((end)->tls),         \
			    words_[i_]);                                                           \
	} while (0)

#endif
