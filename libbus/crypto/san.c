#include "crypto/san.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/oid.h>

enum { SEQUENCE = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE };

/* Enters a value of that tag: moves *at to its content and returns the content's end. NULL: the tag differs. */
static const unsigned char *
enter(unsigned char **at, const unsigned char *end, int tag)
{
	size_t len;

	return mbedtls_asn1_get_tag(at, end, &len, tag) == 0 ? *at + len : NULL;
}

/* The content of an extension if it is subjectAltName: its names. */
static bool
open_names(unsigned char *at, const unsigned char *end, struct bus__san *names)
{
	const unsigned char *oid_end = enter(&at, end, MBEDTLS_ASN1_OID), *value;
	size_t oid_len = sizeof MBEDTLS_OID_SUBJECT_ALT_NAME - 1;
	int critical;

	if (oid_end == NULL || (size_t)(oid_end - at) != oid_len ||
	    memcmp(at, MBEDTLS_OID_SUBJECT_ALT_NAME, oid_len) != 0)
		return false;
	at += oid_len;
	(void)mbedtls_asn1_get_bool(&at, end, &critical); /* optional */
	value = enter(&at, end, MBEDTLS_ASN1_OCTET_STRING);
	value = value != NULL ? enter(&at, value, SEQUENCE) : NULL;
	if (value != NULL) {
		names->at = at;
		names->end = value;
	}
	return true;
}

void
bus__san_begin(const mbedtls_x509_crt *cert, struct bus__san *ret_san)
{
	unsigned char *at = cert->v3_ext.p;
	const unsigned char *end;

	*ret_san = (struct bus__san){.at = NULL};
	if (at == NULL)
		return;
	end = enter(&at, at + cert->v3_ext.len, SEQUENCE);
	while (end != NULL && at < end) {
		const unsigned char *extension = enter(&at, end, SEQUENCE);

		if (extension == NULL || open_names(at, extension, ret_san))
			return;
		at += extension - at;
	}
}

bool
bus__san_next(struct bus__san *names)
{
	unsigned char *at = (unsigned char *)(uintptr_t)names->at;
	size_t len;

	if (at == NULL || names->end - at < 2)
		return false;
	names->kind = *at++ & 0x1f;
	if (mbedtls_asn1_get_len(&at, names->end, &len) != 0) {
		names->at = NULL;
		return false;
	}
	names->name = at;
	names->len = len;
	names->at = at + len;
	return true;
}

/* The bytes of a certificate are untrusted. */
static void
copy_printable(const unsigned char *name, size_t len, char *ret_text, size_t cap)
{
	size_t at = 0;

	for (; at < len && at + 1 < cap; at++)
		ret_text[at] = name[at] >= ' ' && name[at] < 0x7f ? (char)name[at] : '?';
	ret_text[at] = '\0';
}

static bool
write_one(const struct bus__san *names, char *ret_text, size_t cap)
{
	if (names->kind == BUS__SAN_DNS)
		copy_printable(names->name, names->len, ret_text, cap);
	else if (names->kind == BUS__SAN_ADDRESS && (names->len == 4 || names->len == 16))
		return inet_ntop(names->len == 4 ? AF_INET : AF_INET6, names->name, ret_text,
			   (socklen_t)cap) != NULL;
	else
		return false;
	return true;
}

void
bus__san_write(const mbedtls_x509_crt *cert, char *ret_text, size_t cap)
{
	struct bus__san names;
	char one[80];
	size_t len = 0;

	ret_text[0] = '\0';
	bus__san_begin(cert, &names);
	while (bus__san_next(&names)) {
		if (!write_one(&names, one, sizeof one))
			continue;
		if (len + strlen(one) + sizeof ", , ..." > cap) {
			snprintf(ret_text + len, cap - len, "%s...", len > 0 ? ", " : "");
			return;
		}
		len +=
		    (size_t)snprintf(ret_text + len, cap - len, "%s%s", len > 0 ? ", " : "", one);
	}
	if (len == 0)
		bus__common_name(&cert->subject, ret_text, cap);
}

void
bus__common_name(const mbedtls_x509_name *name, char *ret_text, size_t cap)
{
	ret_text[0] = '\0';
	for (; name != NULL; name = name->next)
		if (name->oid.p != NULL && MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &name->oid) == 0)
			copy_printable(name->val.p, name->val.len, ret_text, cap);
}
