#include "crypto/tls_parts.h"

#include <stdio.h>
#include <string.h>

#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl_ciphersuites.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "crypto/files.h"

const char *const bus__tls_missing = NULL;

/* With an ephemeral key, and authenticated ciphers only. ChaCha20 first: it needs no hardware of its own. */
static const int cert_suites[] = {
#ifdef MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    0,
};

/* The last two are for small devices without elliptic curves. */
static const int psk_suites[] = {
    MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_PSK_WITH_CHACHA20_POLY1305_SHA256,
    0,
};

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
static void
choose_versions(mbedtls_ssl_config *conf, bool psk)
{
	static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
	    MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1,
	    MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

	mbedtls_ssl_conf_groups(conf, groups);
	mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
	if (psk)
		mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
}
#else
static void
choose_versions(mbedtls_ssl_config *conf, bool psk)
{
	static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1,
	    MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_NONE};

	(void)psk;
	mbedtls_ssl_conf_curves(conf, curves);
	mbedtls_ssl_conf_min_version(
	    conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
}
#endif

/* mbedTLS counts the NUL of PEM text; DER has none. */
static size_t
parse_len(const unsigned char *data, size_t len)
{
	return strstr((const char *)data, "-----BEGIN") != NULL ? len + 1 : len;
}

static int
say(const char *path, int err, const char *what, char reason[BUS__TLS_REASON])
{
	char words[100];

	if (bus__mbed_is_no_memory(err))
		return BUS_E_NOMEM;
	bus__mbed_words(err, words, sizeof words);
	snprintf(reason, BUS__TLS_REASON, "%.120s: %s (%.60s)", path, what, words);
	return BUS_E_TLS;
}

static int
read_certs(const char *path, mbedtls_x509_crt *ret_certs, char reason[BUS__TLS_REASON])
{
	unsigned char *data;
	size_t len;
	int err = bus__file_read(path, false, &data, &len, reason, BUS__TLS_REASON);

	if (err < 0)
		return err;
	err = mbedtls_x509_crt_parse(ret_certs, data, parse_len(data, len));
	bus__file_free(data, len);
	return err == 0 ? 0 : say(path, err, "not a certificate in PEM, or damaged", reason);
}

static int
read_key(const char *path, mbedtls_pk_context *ret_key, char reason[BUS__TLS_REASON])
{
	unsigned char *data;
	size_t len;
	int err = bus__file_read(path, true, &data, &len, reason, BUS__TLS_REASON);

	if (err < 0)
		return err;
	err = bus__mbed_parse_key(ret_key, data, parse_len(data, len));
	bus__file_free(data, len);
	if (err != 0)
		return say(
		    path, err, "not a private key in PEM, or protected by a password", reason);
	if (bus__mbed_is_ec(ret_key))
		return 0;
	snprintf(
	    reason, BUS__TLS_REASON, "%.160s: not a key of an elliptic curve: use P-256", path);
	return BUS_E_TLS;
}

/* With such a certificate mbedTLS would only report that no cipher fits. */
static int
check_use(const char *path, struct bus__tls_config *config, char reason[BUS__TLS_REASON])
{
	if (mbedtls_x509_crt_check_extended_key_usage(
		&config->cert, MBEDTLS_OID_SERVER_AUTH, sizeof MBEDTLS_OID_SERVER_AUTH - 1) == 0)
		return 0;
	snprintf(reason, BUS__TLS_REASON, "%.160s: not meant for a server", path);
	return BUS_E_TLS;
}

static int
check_pair(const char *path, struct bus__tls_config *config, char reason[BUS__TLS_REASON])
{
	int err = bus__mbed_check_pair(&config->cert.pk, &config->key);

	if (err == 0)
		return 0;
	if (bus__mbed_is_no_memory(err))
		return BUS_E_NOMEM;
	snprintf(reason, BUS__TLS_REASON, "%.160s: this key belongs to another certificate", path);
	return BUS_E_TLS;
}

static int
use_certs(struct bus__tls_config *config, const struct bus__tls_settings *settings,
    char reason[BUS__TLS_REASON])
{
	const char *key_file =
	    settings->key_file != NULL ? settings->key_file : settings->cert_file;
	int err = 0;

	if (settings->ca_file != NULL)
		err = read_certs(settings->ca_file, &config->ca, reason);
	if (err == 0 && settings->cert_file != NULL) {
		err = read_certs(settings->cert_file, &config->cert, reason);
		if (err == 0)
			err = read_key(key_file, &config->key, reason);
		if (err == 0 && !settings->dials)
			err = check_use(settings->cert_file, config, reason);
		if (err == 0)
			err = check_pair(key_file, config, reason);
		if (err == 0 &&
		    mbedtls_ssl_conf_own_cert(&config->conf, &config->cert, &config->key) != 0)
			err = BUS_E_NOMEM;
	}
	mbedtls_ssl_conf_ca_chain(&config->conf, &config->ca, NULL);
	mbedtls_ssl_conf_ciphersuites(&config->conf, cert_suites);
	mbedtls_ssl_conf_authmode(&config->conf, settings->dials || settings->ca_file != NULL
						     ? MBEDTLS_SSL_VERIFY_REQUIRED
						     : MBEDTLS_SSL_VERIFY_NONE);
	return err;
}

/* --- pre-shared keys --------------------------------------------------------------------------------------------------------- */

static int
find_key(void *arg, mbedtls_ssl_context *ssl, const unsigned char *identity, size_t len)
{
	struct bus__tls_config *config = arg;
	const struct bus__psk *psk = bus__psk_find(config->keys, identity, len);

	if (psk == NULL)
		return -1;
	memcpy(config->shaking_hand->identity, psk->identity, sizeof psk->identity);
	return mbedtls_ssl_set_hs_psk(ssl, psk->key, psk->key_len);
}

static int
read_keys(const char *path, struct bus__psk **ret_keys, char reason[BUS__TLS_REASON])
{
	unsigned char *data;
	unsigned line = 0;
	size_t len;
	int err = bus__file_read(path, true, &data, &len, reason, BUS__TLS_REASON);

	if (err < 0)
		return err;
	err = bus__psk_parse((const char *)data, ret_keys, &line);
	bus__file_free(data, len);
	if (err == BUS_E_TLS)
		snprintf(reason, BUS__TLS_REASON,
		    "%.160s: line %u is not identity:key with a key of %d to %d bytes in hex", path,
		    line, BUS__PSK_LEAST, BUS__PSK_MOST);
	if (err == 0 && *ret_keys == NULL) {
		snprintf(reason, BUS__TLS_REASON,
		    "%.160s: no key in it; 'libbus cert psk IDENTITY' adds one", path);
		err = BUS_E_TLS;
	}
	return err;
}

static int
use_keys(struct bus__tls_config *config, const struct bus__tls_settings *settings,
    char reason[BUS__TLS_REASON])
{
	const struct bus__psk *first;
	int err = read_keys(settings->psk_file, &config->keys, reason);

	if (err < 0)
		return err;
	first = config->keys;
	mbedtls_ssl_conf_ciphersuites(&config->conf, psk_suites);
	if (!settings->dials)
		mbedtls_ssl_conf_psk_cb(&config->conf, find_key, config);
	else if (mbedtls_ssl_conf_psk(&config->conf, first->key, first->key_len,
		     (const unsigned char *)first->identity, strlen(first->identity)) != 0)
		err = BUS_E_NOMEM;
	return err;
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

static void
config_free(struct bus__tls_config *config)
{
	mbedtls_ssl_config_free(&config->conf);
	mbedtls_x509_crt_free(&config->ca);
	mbedtls_x509_crt_free(&config->cert);
	mbedtls_pk_free(&config->key);
	bus__psk_free(config->keys);
	bus__free(config->ca_file);
	bus__free(config->psk_file);
	bus__free(config);
}

static int
begin(struct bus__tls_config *config, const struct bus__tls_settings *settings)
{
	mbedtls_ssl_config *conf = &config->conf;

	if (settings->ca_file != NULL && (config->ca_file = bus__strdup(settings->ca_file)) == NULL)
		return BUS_E_NOMEM;
	if (settings->psk_file != NULL &&
	    (config->psk_file = bus__strdup(settings->psk_file)) == NULL)
		return BUS_E_NOMEM;
	if (bus__mbed_begin() != 0)
		return BUS_E_NOMEM;
	if (mbedtls_ssl_config_defaults(conf,
		settings->dials ? MBEDTLS_SSL_IS_CLIENT : MBEDTLS_SSL_IS_SERVER,
		MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0)
		return BUS_E_NOMEM;
	choose_versions(conf, settings->psk_file != NULL);
	mbedtls_ssl_conf_rng(conf, bus__mbed_random, NULL);
	mbedtls_ssl_conf_cert_profile(conf, &mbedtls_x509_crt_profile_next);
#ifdef MBEDTLS_SSL_RENEGOTIATION
	mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_CLI_C)
	mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
	return 0;
}

int
bus__tls_config_new(const struct bus__tls_settings *settings, struct bus__tls_config **ret_config,
    char ret_reason[BUS__TLS_REASON])
{
	struct bus__tls_config *config = bus__calloc(1, sizeof *config);
	int err;

	ret_reason[0] = '\0';
	if (config == NULL)
		return BUS_E_NOMEM;
	atomic_init(&config->refs, 1);
	config->dials = settings->dials;
	mbedtls_ssl_config_init(&config->conf);
	mbedtls_x509_crt_init(&config->ca);
	mbedtls_x509_crt_init(&config->cert);
	mbedtls_pk_init(&config->key);
	err = begin(config, settings);
	if (err == 0)
		err = settings->psk_file != NULL ? use_keys(config, settings, ret_reason)
						 : use_certs(config, settings, ret_reason);
	if (err < 0) {
		config_free(config);
		return err;
	}
	*ret_config = config;
	return 0;
}

/* Relaxed to take, since the taker has a reference; the last to drop sees the writes of all. */
struct bus__tls_config *
bus__tls_config_ref(struct bus__tls_config *config)
{
	atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
	return config;
}

void
bus__tls_config_unref(struct bus__tls_config *config)
{
	if (config != NULL &&
	    atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) == 1)
		config_free(config);
}
