#include "crypto/mbed.h"

#include <pthread.h>
#include <stdio.h>

#include <mbedtls/asn1.h>
#include <mbedtls/cipher.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/pem.h>
#include <mbedtls/ssl.h>

#include "base/fork.h"
#include "base/random.h"

int
bus__mbed_random(void *none, unsigned char *ret_bytes, size_t len)
{
	(void)none;
	return bus__random(ret_bytes, len) == 0 ? 0 : MBEDTLS_ERR_ERROR_GENERIC_ERROR;
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>

#ifdef MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
/* Our builds of mbedTLS (tools/wheel_libs.sh) call this for random bytes. */
psa_status_t
mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context, uint8_t *output,
    size_t output_size, size_t *output_length)
{
	(void)context;
	*output_length = output_size;
	return bus__random(output, output_size) == 0 ? PSA_SUCCESS : PSA_ERROR_HARDWARE_FAILURE;
}
#endif

static pthread_mutex_t begin_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t begun_in; /* the fork generation, plus one; 0: not begun */

static void
take_lock(void)
{
	pthread_mutex_lock(&begin_lock);
}

static void
leave_lock(void)
{
	pthread_mutex_unlock(&begin_lock);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
watch_forks(void)
{
	pthread_atfork(take_lock, leave_lock, leave_lock);
}

/* Its random number generator is seeded once per process: without a new seed a child would draw the same keys as its parent. */
int
bus__mbed_begin(void)
{
	uint32_t now = bus__fork_generation() + 1;
	int err = 0;

	pthread_once(&once, watch_forks);
	take_lock();
	if (begun_in != now) {
		if (begun_in != 0)
			mbedtls_psa_crypto_free();
		err = psa_crypto_init() == PSA_SUCCESS ? 0 : MBEDTLS_ERR_ERROR_GENERIC_ERROR;
		begun_in = err == 0 ? now : 0;
	}
	leave_lock();
	return err;
}

int
bus__mbed_parse_key(mbedtls_pk_context *ret_key, const unsigned char *data, size_t len)
{
	return mbedtls_pk_parse_key(ret_key, data, len, NULL, 0, bus__mbed_random, NULL);
}

int
bus__mbed_check_pair(const mbedtls_pk_context *public_key, const mbedtls_pk_context *key)
{
	return mbedtls_pk_check_pair(public_key, key, bus__mbed_random, NULL);
}
#else
int
bus__mbed_begin(void)
{
	return 0;
}

int
bus__mbed_parse_key(mbedtls_pk_context *ret_key, const unsigned char *data, size_t len)
{
	return mbedtls_pk_parse_key(ret_key, data, len, NULL, 0);
}

int
bus__mbed_check_pair(const mbedtls_pk_context *public_key, const mbedtls_pk_context *key)
{
	return mbedtls_pk_check_pair(public_key, key);
}
#endif

bool
bus__mbed_is_ec(const mbedtls_pk_context *key)
{
	mbedtls_pk_type_t type = mbedtls_pk_get_type(key);

	return type == MBEDTLS_PK_ECKEY || type == MBEDTLS_PK_ECDSA;
}

/* An error code is the sum of a module's and a lower module's. */
bool
bus__mbed_is_no_memory(int err)
{
	static const int high[] = {MBEDTLS_ERR_X509_ALLOC_FAILED, MBEDTLS_ERR_PK_ALLOC_FAILED,
	    MBEDTLS_ERR_ECP_ALLOC_FAILED, MBEDTLS_ERR_PEM_ALLOC_FAILED, MBEDTLS_ERR_MD_ALLOC_FAILED,
	    MBEDTLS_ERR_CIPHER_ALLOC_FAILED, MBEDTLS_ERR_SSL_ALLOC_FAILED};
	int low = -err & 0x7f;

	if (low == -MBEDTLS_ERR_MPI_ALLOC_FAILED || low == -MBEDTLS_ERR_ASN1_ALLOC_FAILED)
		return true;
	for (size_t i = 0; i < sizeof high / sizeof high[0]; i++)
		if ((-err & ~0x7f) == -high[i])
			return true;
	return false;
}

void
bus__mbed_words(int err, char *ret_text, size_t cap)
{
	char text[120];

	mbedtls_strerror(err, text, sizeof text);
	snprintf(ret_text, cap, "%s", text);
}
