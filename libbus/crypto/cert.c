#define _POSIX_C_SOURCE 200809L
#include "crypto/cert.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "base/random.h"
#include "crypto/files.h"
#include "crypto/mbed.h"
#include "crypto/san.h"

enum { PEM_MOST = 8192, NAMES_MOST = 4096, NAME_MOST = 64, HOST_MOST = 253, SERIAL = 16 };

static bool
is_name(const char *text, size_t most, const char *more)
{
	size_t len = strspn(text, more);

	return len > 0 && len <= most && text[len] == '\0';
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

/* --- extensions, which asn1write writes backwards ------------------------------------------------------------------------------- */

/* Writes one name before *at. 0 or an error. */
static int
put_host(unsigned char **at, unsigned char *start, const char *host)
{
	unsigned char number[16];
	const void *data = host;
	size_t len = strlen(host);
	int kind = BUS__SAN_DNS;

	if (inet_pton(AF_INET, host, number) == 1 || inet_pton(AF_INET6, host, number) == 1) {
		kind = BUS__SAN_ADDRESS;
		len = strchr(host, ':') != NULL ? 16 : 4;
		data = number;
	} else if (!is_name(host, HOST_MOST, "*" LETTERS)) {
		return MBEDTLS_ERR_ASN1_INVALID_DATA;
	}
	if (mbedtls_asn1_write_raw_buffer(at, start, data, len) < 0 ||
	    mbedtls_asn1_write_len(at, start, len) < 0)
		return MBEDTLS_ERR_ASN1_BUF_TOO_SMALL;
	return mbedtls_asn1_write_tag(
		   at, start, (unsigned char)(MBEDTLS_ASN1_CONTEXT_SPECIFIC | kind)) < 0
		   ? MBEDTLS_ERR_ASN1_BUF_TOO_SMALL
		   : 0;
}

static int
close_sequence(unsigned char **at, unsigned char *start, const unsigned char *end)
{
	int err = mbedtls_asn1_write_len(at, start, (size_t)(end - *at));

	if (err >= 0)
		err = mbedtls_asn1_write_tag(
		    at, start, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
	return err < 0 ? err : 0;
}

static int
set_hosts(mbedtls_x509write_cert *cert, const struct bus__cert_order *order)
{
	unsigned char *room = bus__malloc(NAMES_MOST), *at, *end;
	int err = 0;

	if (room == NULL)
		return MBEDTLS_ERR_X509_ALLOC_FAILED;
	at = end = room + NAMES_MOST;
	for (size_t i = order->host_count; i > 0 && err == 0; i--)
		err = put_host(&at, room, order->hosts[i - 1]);
	if (err == 0)
		err = close_sequence(&at, room, end);
	if (err == 0)
		err = mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_SUBJECT_ALT_NAME,
		    sizeof MBEDTLS_OID_SUBJECT_ALT_NAME - 1, 0, at, (size_t)(end - at));
	bus__free(room);
	return err;
}

static int
set_purpose(mbedtls_x509write_cert *cert, const char *oid, size_t oid_len)
{
	unsigned char room[32], *at = room + sizeof room;
	int err = mbedtls_asn1_write_oid(&at, room, oid, oid_len);

	if (err >= 0)
		err = close_sequence(&at, room, room + sizeof room);
	return err < 0 ? err
		       : mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_EXTENDED_KEY_USAGE,
			     sizeof MBEDTLS_OID_EXTENDED_KEY_USAGE - 1, 0, at,
			     (size_t)(room + sizeof room - at));
}

static int
set_kind(mbedtls_x509write_cert *cert, enum bus__cert_kind kind)
{
	bool ca = kind == BUS__CERT_CA;
	int err = mbedtls_x509write_crt_set_basic_constraints(cert, ca, ca ? 0 : -1);

	if (err == 0)
		err = mbedtls_x509write_crt_set_key_usage(
		    cert, ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
			     : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
	if (err == 0 && kind == BUS__CERT_SERVER)
		err =
		    set_purpose(cert, MBEDTLS_OID_SERVER_AUTH, sizeof MBEDTLS_OID_SERVER_AUTH - 1);
	if (err == 0 && kind == BUS__CERT_CLIENT)
		err =
		    set_purpose(cert, MBEDTLS_OID_CLIENT_AUTH, sizeof MBEDTLS_OID_CLIENT_AUTH - 1);
	if (err == 0)
		err = mbedtls_x509write_crt_set_subject_key_identifier(cert);
	return err == 0 ? mbedtls_x509write_crt_set_authority_key_identifier(cert) : err;
}

/* --- a certificate -------------------------------------------------------------------------------------------------------------- */

static int
set_serial(mbedtls_x509write_cert *cert)
{
	unsigned char serial[SERIAL];
	int err = bus__random(serial, sizeof serial);

	if (err < 0)
		return MBEDTLS_ERR_X509_INVALID_SERIAL;
	serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, with no leading zero byte */
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	return mbedtls_x509write_crt_set_serial_raw(cert, serial, sizeof serial);
#else
	mbedtls_mpi number;

	mbedtls_mpi_init(&number);
	err = mbedtls_mpi_read_binary(&number, serial, sizeof serial);
	if (err == 0)
		err = mbedtls_x509write_crt_set_serial(cert, &number);
	mbedtls_mpi_free(&number);
	return err;
#endif
}

static int
set_times(mbedtls_x509write_cert *cert, time_t from, time_t to)
{
	char first[32], last[32];
	struct tm tm;

	if (gmtime_r(&from, &tm) == NULL ||
	    strftime(first, sizeof first, "%Y%m%d%H%M%S", &tm) != 14)
		return MBEDTLS_ERR_X509_INVALID_DATE;
	if (gmtime_r(&to, &tm) == NULL || strftime(last, sizeof last, "%Y%m%d%H%M%S", &tm) != 14)
		return MBEDTLS_ERR_X509_INVALID_DATE;
	return mbedtls_x509write_crt_set_validity(cert, first, last);
}

static int
make_key(mbedtls_pk_context *ret_key)
{
	int err = mbedtls_pk_setup(ret_key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));

	return err == 0 ? mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*ret_key),
			      bus__mbed_random, NULL)
			: err;
}

/* Writes the PEM texts of a key and of its certificate, which `cert` describes. */
static int
write_pair(mbedtls_x509write_cert *cert, mbedtls_pk_context *key, struct bus__cert_pair *ret_pair)
{
	struct bus__cert_pair pair = {bus__calloc(1, PEM_MOST), bus__calloc(1, PEM_MOST)};
	int err = pair.cert == NULL || pair.key == NULL ? MBEDTLS_ERR_X509_ALLOC_FAILED : 0;

	if (err == 0)
		err = mbedtls_x509write_crt_pem(
		    cert, (unsigned char *)pair.cert, PEM_MOST, bus__mbed_random, NULL);
	if (err == 0)
		err = mbedtls_pk_write_key_pem(key, (unsigned char *)pair.key, PEM_MOST);
	if (err == 0)
		*ret_pair = pair;
	else
		bus__cert_pair_free(&pair);
	return err;
}

struct issuer {
	mbedtls_x509_crt cert;
	mbedtls_pk_context key;
	char name[256];
};

static int
read_issuer(const struct bus__cert_pair *pair, struct issuer *issuer)
{
	if (mbedtls_x509_crt_parse(
		&issuer->cert, (const unsigned char *)pair->cert, strlen(pair->cert) + 1) != 0 ||
	    bus__mbed_parse_key(
		&issuer->key, (const unsigned char *)pair->key, strlen(pair->key) + 1) != 0 ||
	    mbedtls_x509_dn_gets(issuer->name, sizeof issuer->name, &issuer->cert.subject) < 0 ||
	    bus__mbed_check_pair(&issuer->cert.pk, &issuer->key) != 0)
		return BUS_E_TLS;
	return 0;
}

static int
write_cert(
    const struct bus__cert_order *order, struct issuer *issuer, struct bus__cert_pair *ret_pair)
{
	mbedtls_x509write_cert cert;
	mbedtls_pk_context key;
	char name[NAME_MOST + sizeof "CN="];
	int err;

	snprintf(name, sizeof name, "CN=%s", order->name);
	mbedtls_x509write_crt_init(&cert);
	mbedtls_pk_init(&key);
	mbedtls_x509write_crt_set_version(&cert, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
	err = make_key(&key);
	mbedtls_x509write_crt_set_subject_key(&cert, &key);
	mbedtls_x509write_crt_set_issuer_key(&cert, issuer != NULL ? &issuer->key : &key);
	if (err == 0)
		err = mbedtls_x509write_crt_set_subject_name(&cert, name);
	if (err == 0)
		err = mbedtls_x509write_crt_set_issuer_name(
		    &cert, issuer != NULL ? issuer->name : name);
	if (err == 0)
		err = set_serial(&cert);
	if (err == 0)
		err = set_times(&cert, order->from, order->to);
	if (err == 0)
		err = set_kind(&cert, order->kind);
	if (err == 0 && order->host_count > 0)
		err = set_hosts(&cert, order);
	if (err == 0)
		err = write_pair(&cert, &key, ret_pair);
	mbedtls_x509write_crt_free(&cert);
	mbedtls_pk_free(&key);
	return err;
}

static int
translate(int err)
{
	if (err == 0)
		return 0;
	if (bus__mbed_is_no_memory(err))
		return BUS_E_NOMEM;
	return err == MBEDTLS_ERR_X509_INVALID_SERIAL ? BUS_E_SYS : BUS_E_INVAL;
}

int
bus__cert_make(const struct bus__cert_order *order, const struct bus__cert_pair *issuer_pair,
    struct bus__cert_pair *ret_pair)
{
	struct issuer *issuer = NULL;
	int err = 0;

	if (!is_name(order->name, NAME_MOST, " " LETTERS))
		return BUS_E_INVAL;
	if (bus__mbed_begin() != 0)
		return BUS_E_NOMEM;
	if (issuer_pair != NULL) {
		issuer = bus__calloc(1, sizeof *issuer);
		if (issuer == NULL)
			return BUS_E_NOMEM;
		mbedtls_x509_crt_init(&issuer->cert);
		mbedtls_pk_init(&issuer->key);
		err = read_issuer(issuer_pair, issuer);
	}
	if (err == 0)
		err = translate(write_cert(order, issuer, ret_pair));
	if (issuer != NULL) {
		mbedtls_x509_crt_free(&issuer->cert);
		mbedtls_pk_free(&issuer->key);
		bus__free(issuer);
	}
	return err;
}

void
bus__cert_pair_free(struct bus__cert_pair *pair)
{
	if (pair->cert != NULL)
		bus__file_free((unsigned char *)pair->cert, strlen(pair->cert));
	if (pair->key != NULL)
		bus__file_free((unsigned char *)pair->key, strlen(pair->key));
	*pair = (struct bus__cert_pair){.cert = NULL};
}
