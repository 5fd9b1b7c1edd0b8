#include "crypto/tls_parts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"

enum {
	OUT_FIRST = 2 * 1024,
	OUT_MOST =
	    1024 * 1024 /* a peer that causes answers and does not read them is disconnected */
};

/* --- the I/O callbacks of mbedTLS --------------------------------------------------------------------------------------------- */

static int
take_in(void *arg, unsigned char *buf, size_t len)
{
	struct bus__tls *tls = arg;
	size_t n = len < tls->in_len ? len : tls->in_len;

	if (n == 0)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(buf, tls->in, n);
	if (n == BUS__TLS_RECORD_HEAD)
		memcpy(tls->last_head, buf, n);
	else if (n == sizeof tls->last_alert)
		memcpy(tls->last_alert, buf, n);
	tls->in += n;
	tls->in_len -= n;
	return (int)n;
}

static int
put_out(void *arg, const unsigned char *data, size_t len)
{
	struct bus__tls *tls = arg;
	size_t need = tls->out_len + len, cap = tls->out_cap;

	if (need > OUT_MOST)
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	if (need > cap) {
		unsigned char *grown;

		/* An exact fit for one record or answer; doubled when more of them gather. */
		cap = cap == 0 ? need : cap * 2 > need ? cap * 2 : need;
		if (cap < OUT_FIRST)
			cap = OUT_FIRST;
		grown = bus__realloc(tls->out, cap);
		if (grown == NULL)
			return MBEDTLS_ERR_SSL_ALLOC_FAILED;
		tls->out = grown;
		tls->out_cap = cap;
	}
	memcpy(tls->out + tls->out_len, data, len);
	tls->out_len = need;
	return (int)len;
}

void
bus__tls_feed(struct bus__tls *tls, const void *data, size_t len)
{
	tls->in = data;
	tls->in_len = len;
}

size_t
bus__tls_unread(const struct bus__tls *tls)
{
	return tls->in_len;
}

bool
bus__tls_has_output(const struct bus__tls *tls)
{
	return tls->out_len > 0;
}

void *
bus__tls_take(struct bus__tls *tls, size_t *ret_len)
{
	void *out = tls->out;

	*ret_len = tls->out_len;
	tls->out = NULL;
	tls->out_len = tls->out_cap = 0;
	return out;
}

/* --- a connection ------------------------------------------------------------------------------------------------------------ */

/* A name is sent to the server (SNI) and compared by mbedTLS. An address is neither; bus__tls_look_at() compares it. */
static int
set_host(struct bus__tls *tls, const char *host)
{
	char *zone;

	if (host == NULL)
		return 0;
	tls->host = bus__strdup(host);
	if (tls->host == NULL)
		return BUS_E_NOMEM;
	zone = strchr(tls->host, '%');
	if (zone != NULL)
		*zone = '\0';
	if (inet_pton(AF_INET, tls->host, tls->number) == 1)
		tls->number_len = 4;
	else if (inet_pton(AF_INET6, tls->host, tls->number) == 1)
		tls->number_len = 16;
	return mbedtls_ssl_set_hostname(&tls->ssl, tls->number_len == 0 ? tls->host : NULL) == 0
		   ? 0
		   : BUS_E_NOMEM;
}

int
bus__tls_new(struct bus__tls_config *config, const char *host, struct bus__tls **ret_tls)
{
	struct bus__tls *tls = bus__calloc(1, sizeof *tls);
	int err;

	if (tls == NULL)
		return BUS_E_NOMEM;
	tls->config = bus__tls_config_ref(config);
	mbedtls_ssl_init(&tls->ssl);
	err = mbedtls_ssl_setup(&tls->ssl, &config->conf) == 0 ? 0 : BUS_E_NOMEM;
	if (err == 0)
		err = set_host(tls, host);
	if (err < 0) {
		bus__tls_free(tls);
		return err;
	}
	mbedtls_ssl_set_bio(&tls->ssl, tls, put_out, take_in, NULL);
	mbedtls_ssl_set_verify(&tls->ssl, bus__tls_look_at, tls);
	*ret_tls = tls;
	return 0;
}

void
bus__tls_free(struct bus__tls *tls)
{
	if (tls == NULL)
		return;
	mbedtls_ssl_free(&tls->ssl);
	bus__tls_config_unref(tls->config);
	bus__free(tls->host);
	bus__free(tls->out);
	bus__free(tls);
}

/* The first bytes tell whether the peer speaks TLS at all; mbedTLS would only report a malformed record. */
static int
look_first(struct bus__tls *tls)
{
	const char *protocol = bus__tls_foreign(tls->in, tls->in_len);

	tls->looked = tls->looked || tls->in_len > 0;
	if (protocol == NULL)
		return 0;
	snprintf(tls->reason, sizeof tls->reason, "the peer does not speak TLS: %s", protocol);
	tls->failed = true;
	return BUS_E_TLS;
}

int
bus__tls_handshake(struct bus__tls *tls)
{
	int err;

	if (tls->failed)
		return BUS_E_TLS;
	if (!tls->looked && look_first(tls) < 0)
		return BUS_E_TLS;
	tls->config->shaking_hand = tls;
	err = mbedtls_ssl_handshake(&tls->ssl);
	if (err == 0) {
		tls->is_open = true;
		return 1;
	}
	if (err == MBEDTLS_ERR_SSL_WANT_READ || err == MBEDTLS_ERR_SSL_WANT_WRITE)
		return 0;
	if (err == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE) /* 2.28 closes without an alert */
		(void)mbedtls_ssl_send_alert_message(
		    &tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, BUS__TLS_CERTIFICATE_REQUIRED);
	return bus__tls_fail(tls, err);
}

/* Ignores tickets for a later connection. */
static bool
is_ticket(int err)
{
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
	return err == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
#else
	(void)err;
	return false;
#endif
}

/* put_out() takes all bytes, so WANT_WRITE never occurs, and no call must be repeated. */
long
bus__tls_read(struct bus__tls *tls, void *buf, size_t cap)
{
	size_t count = 0;
	int n = 0;

	if (tls->failed)
		return BUS_E_TLS;
	if (tls->is_over)
		return BUS_E_GONE;
	while (count < cap) {
		n = mbedtls_ssl_read(&tls->ssl, (unsigned char *)buf + count, cap - count);
		if (is_ticket(n))
			continue;
		if (n <= 0)
			break;
		count += (size_t)n;
		tls->heard = true;
	}
	if (n > 0 || n == MBEDTLS_ERR_SSL_WANT_READ || n == MBEDTLS_ERR_SSL_WANT_WRITE)
		return (long)count;
	/* Returns the bytes before it first; the next call reports it. */
	tls->is_over = n == 0 || n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
	if (!tls->is_over)
		n = bus__tls_fail(tls, n);
	return count > 0 ? (long)count : tls->is_over ? BUS_E_GONE : n;
}

long
bus__tls_write(struct bus__tls *tls, const void *data, size_t len)
{
	int n;

	if (tls->failed)
		return BUS_E_TLS;
	n = mbedtls_ssl_write(&tls->ssl, data, len);
	return n >= 0 ? n : bus__tls_fail(tls, n);
}

void
bus__tls_close(struct bus__tls *tls)
{
	if (tls->is_open && !tls->failed)
		(void)mbedtls_ssl_close_notify(&tls->ssl);
}

const char *
bus__tls_reason(const struct bus__tls *tls)
{
	return tls->reason;
}

const char *
bus__tls_identity(const struct bus__tls *tls)
{
	return tls->identity;
}
