#define _POSIX_C_SOURCE 200809L
/* crypto/tls_words.c: turns failures of TLS into sentences with a remedy. */
#include "crypto/tls_parts.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <mbedtls/error.h>

#include <libbus/error.h>

#include "crypto/san.h"

/* --- certificates ------------------------------------------------------------------------------------------------------------ */

void
bus__tls_date(const mbedtls_x509_time *time, char ret_text[16])
{
	snprintf(ret_text, 16, "%04u-%02u-%02u", (unsigned)time->year % 10000,
	    (unsigned)time->mon % 100, (unsigned)time->day % 100);
}

static void
say_expired(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	char date[16];

	bus__tls_date(&cert->valid_to, date);
	snprintf(tls->verdict, sizeof tls->verdict, "%s expired on %s", of, date);
}

/* The clock of a small machine without a battery starts in 1970. */
static void
say_future(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	time_t now = time(NULL);
	struct tm tm;
	char date[16], today[16] = "";

	bus__tls_date(&cert->valid_from, date);
	if (gmtime_r(&now, &tm) != NULL)
		strftime(today, sizeof today, "%Y-%m-%d", &tm);
	snprintf(tls->verdict, sizeof tls->verdict,
	    "%s is valid from %s on, and this machine's clock says %s", of, date, today);
}

static void
say_untrusted(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	char issuer[64];

	bus__common_name(&cert->issuer, issuer, sizeof issuer);
	snprintf(tls->verdict, sizeof tls->verdict,
	    "%s is signed by a CA \"%s\" that ca_file does not have (%.100s)", of, issuer,
	    tls->config->ca_file != NULL ? tls->config->ca_file : "none is given");
}

static void
say_name(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	char names[110];

	bus__san_write(cert, names, sizeof names);
	snprintf(
	    tls->verdict, sizeof tls->verdict, "%s is for %s, not for %.80s", of, names, tls->host);
}

static void
say_usage(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	(void)cert;
	snprintf(tls->verdict, sizeof tls->verdict, "%s is not meant for a %s", of,
	    tls->config->dials ? "server" : "client");
}

static void
say_weak(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert)
{
	(void)cert;
	snprintf(tls->verdict, sizeof tls->verdict,
	    "%s has a key or a hash that is too weak or not supported", of);
}

enum {
	USAGE = MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE |
		MBEDTLS_X509_BADCERT_NS_CERT_TYPE
};

/* The first match is reported: it must be fixed before the others matter. */
static const struct {
	uint32_t flags;
	void (*say)(struct bus__tls *tls, const char *of, const mbedtls_x509_crt *cert);
} faults[] = {
    {MBEDTLS_X509_BADCERT_NOT_TRUSTED, say_untrusted},
    {MBEDTLS_X509_BADCERT_EXPIRED, say_expired},
    {MBEDTLS_X509_BADCERT_FUTURE, say_future},
    {MBEDTLS_X509_BADCERT_CN_MISMATCH, say_name},
    {USAGE, say_usage},
    {UINT32_MAX, say_weak},
};

static bool
has_address(const struct bus__tls *tls, const mbedtls_x509_crt *cert)
{
	struct bus__san names;

	bus__san_begin(cert, &names);
	while (bus__san_next(&names))
		if (names.kind == BUS__SAN_ADDRESS && names.len == tls->number_len &&
		    memcmp(names.name, tls->number, names.len) == 0)
			return true;
	return false;
}

/* mbedTLS calls it from the CA down to the peer's own certificate, which has depth 0. */
int
bus__tls_look_at(void *arg, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
	struct bus__tls *tls = arg;
	size_t i = 0;

	if (depth == 0 && tls->number_len > 0 && !has_address(tls, cert))
		*flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
	if (*flags == 0 || tls->verdict[0] != '\0')
		return 0;
	while ((faults[i].flags & *flags) == 0)
		i++;
	faults[i].say(tls, depth == 0 ? "certificate" : "the CA's certificate", cert);
	return 0;
}

/* --- alerts ------------------------------------------------------------------------------------------------------------------ */

/* Alerts of the peer about this side. */
static const struct {
	int number;
	const char *words;
} alerts[] = {
    {MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE,
	"no common cipher, or one side uses a psk_file and the other certificates"},
    {MBEDTLS_SSL_ALERT_MSG_NO_CERT, "it demands a certificate (cert_file)"},
    {BUS__TLS_CERTIFICATE_REQUIRED, "it demands a certificate (cert_file)"},
    {MBEDTLS_SSL_ALERT_MSG_BAD_CERT,
	"this side's certificate is not accepted: its name, its use or its key"},
    {MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT,
	"it does not support the kind of this side's certificate"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED, "this side's certificate is revoked"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED, "this side's certificate has expired, by its clock"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN, "this side's certificate is not accepted"},
    {MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA,
	"its ca_file does not have the CA of this side's certificate"},
    {MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED, "access denied"},
    {MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC, "keys differ, or bytes were changed on the way"},
    {MBEDTLS_SSL_ALERT_MSG_DECRYPT_ERROR, "keys differ"},
    {MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION,
	"no common version of TLS: both sides need 1.2 or later"},
    {MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME, "it does not have this name"},
    {MBEDTLS_SSL_ALERT_MSG_UNKNOWN_PSK_IDENTITY, "its psk_file does not have this side's identity"},
};

/* In TLS 1.3, mbedTLS 3.6 sends some alerts in clear text, where this side expects a record with a MAC. Used for the sentence
 * only. */
static bool
is_clear_alert(const struct bus__tls *tls)
{
	static const unsigned char head[BUS__TLS_RECORD_HEAD] = {21, 3, 3, 0, 2};

	return memcmp(tls->last_head, head, sizeof head) == 0;
}

static void
say_alert(struct bus__tls *tls, int number)
{
	for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++)
		if (alerts[i].number == number) {
			snprintf(tls->reason, sizeof tls->reason, "the peer refused: %s",
			    alerts[i].words);
			return;
		}
	snprintf(tls->reason, sizeof tls->reason, "the peer refused: TLS alert %d", number);
}

/* --- errors ------------------------------------------------------------------------------------------------------------------ */

const char *
bus__tls_foreign(const unsigned char *data, size_t len)
{
	static const struct {
		const char *start;
		const char *protocol;
	} others[] = {
	    {"GET ", "HTTP"},
	    {"POST ", "HTTP"},
	    {"PUT ", "HTTP"},
	    {"HEAD ", "HTTP"},
	    {"HTTP/", "HTTP"},
	    {"SSH-", "SSH"},
	    {"\xb5"
	     "libbus",
		"libbus in clear text: dial tls:// there"},
	    {"\x10", "MQTT in clear text"},
	    {"\x80", "SSL 2"},
	};
	enum { HANDSHAKE = 22, ALERT = 21 };

	if (len == 0 || data[0] == HANDSHAKE || data[0] == ALERT)
		return NULL;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		size_t n = strlen(others[i].start);

		if (memcmp(data, others[i].start, n < len ? n : len) == 0)
			return others[i].protocol;
	}
	return "bytes of another protocol";
}

static const struct {
	int err;
	const char *words;
} errors[] = {
    {MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE,
	"the peer sent no certificate, and this listener has a ca_file: make one for the peer (libbus cert client NAME)"},
    {MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED, "no ca_file to check the peer's certificate with"},
#ifdef MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN
    {MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN,
	"no common cipher, or one side uses a psk_file and the other certificates"},
#endif
#ifdef MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE
    {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE,
	"no common cipher, or one side uses a psk_file and the other certificates"},
#endif
    {MBEDTLS_ERR_SSL_UNKNOWN_IDENTITY, "the peer's identity is not in psk_file"},
    {MBEDTLS_ERR_SSL_CONN_EOF, "the peer closed the connection during the handshake"},
#ifdef MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION,
	"no common version of TLS: both sides need 1.2 or later"},
#endif
#ifdef MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION,
	"no common version of TLS: both sides need 1.2 or later"},
#endif
};

int
bus__tls_fail(struct bus__tls *tls, int err)
{
	char words[100];
	uint32_t flags;

	tls->failed = true;
	if (bus__mbed_is_no_memory(err))
		return BUS_E_NOMEM;
	if (tls->reason[0] != '\0')
		return BUS_E_TLS;
	if (err == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE || is_clear_alert(tls)) {
		say_alert(tls, err == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE ? tls->ssl.in_msg[1]
									  : tls->last_alert[1]);
		return BUS_E_TLS;
	}
	flags = mbedtls_ssl_get_verify_result(&tls->ssl);
	if (tls->verdict[0] == '\0' && flags != UINT32_MAX && (flags & USAGE) != 0)
		say_usage(tls, "certificate", NULL); /* mbedTLS checks this without the callback */
	if (tls->verdict[0] != '\0') {
		memcpy(tls->reason, tls->verdict, sizeof tls->reason);
		return BUS_E_TLS;
	}
	if (err == MBEDTLS_ERR_SSL_INVALID_MAC && tls->config->psk_file != NULL && !tls->is_open) {
		snprintf(tls->reason, sizeof tls->reason,
		    "keys differ: the peer's key for \"%.64s\" is not the one in psk_file",
		    tls->identity);
		return BUS_E_TLS;
	}
	/* A client of TLS 1.3 is done before the server has checked its certificate, and 3.6 then uses the handshake's keys. */
	if (err == MBEDTLS_ERR_SSL_INVALID_MAC && tls->is_open && !tls->heard &&
	    tls->config->dials) {
		snprintf(tls->reason, sizeof tls->reason,
		    "the peer refused right after the handshake: it probably demands a certificate, or another one (cert_file)");
		return BUS_E_TLS;
	}
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (errors[i].err == err) {
			snprintf(tls->reason, sizeof tls->reason, "%s", errors[i].words);
			return BUS_E_TLS;
		}
	bus__mbed_words(err, words, sizeof words);
	snprintf(tls->reason, sizeof tls->reason, "%s (-0x%04x)", words, (unsigned)-err);
	return BUS_E_TLS;
}
