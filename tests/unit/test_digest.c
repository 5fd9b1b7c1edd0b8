/* Digests against published answers, base64 in its one form, and comparison of secrets. */
#include "bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/secret.h"
#include "crypto/digest.h"

static void
check_hex(const uint8_t digest[BUS__SHA512], const char *want)
{
	char got[2 * BUS__SHA512 + 1];

	for (size_t i = 0; i < BUS__SHA512; i++)
		snprintf(got + 2 * i, 3, "%02x", digest[i]);
	ck_assert_str_eq(got, want);
}

/* --- digests ------------------------------------------------------------------------------------------------------------ */

START_TEST(sha512_is_that_of_fips_180)
{
	uint8_t digest[BUS__SHA512];

	ck_bus(bus__sha512("abc", 3, digest), 0);
	check_hex(digest, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
			  "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
	ck_bus(bus__sha512(NULL, 0, digest), 0);
	check_hex(digest, "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
			  "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e");
}
END_TEST

static void
check_hmac(const void *key, size_t key_len, const void *text, size_t len, const char *want)
{
	uint8_t digest[BUS__SHA512];

	ck_bus(bus__hmac_sha512(key, key_len, text, len, digest), 0);
	check_hex(digest, want);
}

START_TEST(hmac_is_that_of_rfc_4231)
{
	static const char long_key[] = "Test Using Larger Than Block-Size Key - Hash Key First",
			  long_both[] =
			      "This is a test using a larger than block-size key and a larger "
			      "than block-size data. The key needs to be hashed before being used "
			      "by the HMAC algorithm.",
			  question[] = "what do ya want for nothing?";
	uint8_t key[131], text[50], counting[25];

	memset(key, 0x0b, sizeof key);
	check_hmac(key, 20, "Hi There", 8,
	    "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
	    "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854");
	check_hmac("Jefe", 4, question, sizeof question - 1,
	    "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
	    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
	memset(key, 0xaa, sizeof key);
	memset(text, 0xdd, sizeof text);
	check_hmac(key, 20, text, sizeof text,
	    "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
	    "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb");
	for (size_t i = 0; i < sizeof counting; i++)
		counting[i] = (uint8_t)(i + 1);
	memset(text, 0xcd, sizeof text);
	check_hmac(counting, sizeof counting, text, sizeof text,
	    "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db"
	    "a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd");
	check_hmac(key, sizeof key, long_key, sizeof long_key - 1,
	    "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
	    "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598");
	check_hmac(key, sizeof key, long_both, sizeof long_both - 1,
	    "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
	    "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58");
}
END_TEST

static void
check_pbkdf2(const char *password, const char *salt, uint32_t iterations, const char *want)
{
	uint8_t digest[BUS__SHA512];

	ck_bus(bus__pbkdf2_sha512(
		   password, strlen(password), salt, strlen(salt), iterations, NULL, NULL, digest),
	    0);
	check_hex(digest, want);
}

/* The inputs of RFC 6070, with the published answers for SHA-512. */
START_TEST(pbkdf2_has_the_known_answers)
{
	check_pbkdf2("password", "salt", 1,
	    "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
	    "c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce");
	check_pbkdf2("password", "salt", 2,
	    "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c"
	    "f76cab2868a39b9f7840edce4fef5a82be67335c77a6068e04112754f27ccf4e");
	check_pbkdf2("password", "salt", 4096,
	    "d197b1b33db0143e018b12f3d1d1479e6cdebdcc97c5c0f87f6902e072f457b5"
	    "143f30602641b3d55cd335988cb36b84376060ecd532e039b742a239434af2d5");
	check_pbkdf2("passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
	    "8c0511f4c6e597c6ac6315d8f0362e225f3c501495ba23b868c005174dc4ee71"
	    "115b59f9e60cd9532fa33e0f75aefe30225c583a186cd82bd4daea9724a3d3b8");
}
END_TEST

static bool
twice(void *arg)
{
	return ++*(int *)arg < 2;
}

START_TEST(pbkdf2_ends_early_when_it_is_not_wanted_any_more)
{
	uint8_t digest[BUS__SHA512] = {0}, untouched[BUS__SHA512] = {0};
	int asked = 0;

	ck_bus(bus__pbkdf2_sha512("p", 1, "s", 1, 1000000, twice, &asked, digest), BUS_E_CLOSED);
	ck_assert_int_eq(asked, 2);
	ck_assert_mem_eq(digest, untouched, sizeof digest);
}
END_TEST

/* --- base64 ------------------------------------------------------------------------------------------------------------- */

static void
check_base64(const char *bytes, const char *text)
{
	char got[16], back[16];
	size_t len = bus__base64_write(bytes, strlen(bytes), got);

	got[len] = '\0';
	ck_assert_str_eq(got, text);
	ck_assert_uint_eq(len, BUS__BASE64_LEN(strlen(bytes)));
	ck_assert_int_eq(
	    bus__base64_read(text, strlen(text), back, sizeof back), (int)strlen(bytes));
	ck_assert_mem_eq(back, bytes, strlen(bytes));
}

START_TEST(base64_is_that_of_rfc_4648)
{
	check_base64("", "");
	check_base64("f", "Zg==");
	check_base64("fo", "Zm8=");
	check_base64("foo", "Zm9v");
	check_base64("foob", "Zm9vYg==");
	check_base64("fooba", "Zm9vYmE=");
	check_base64("foobar", "Zm9vYmFy");
	check_base64("\xff\xfe\xfb\xef", "//777w==");
}
END_TEST

/* In blocks of exactly their size, so that a sanitizer sees a step beyond. */
START_TEST(base64_of_every_length_reads_back)
{
	for (size_t len = 0; len < 200; len++) {
		size_t text_len = BUS__BASE64_LEN(len);
		uint8_t *bytes = malloc(len + 1), *back = malloc(len + 1);
		char *text = malloc(text_len + 1);

		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(i * 91 + len);
		must(bus__base64_write(bytes, len, text) == text_len);
		must(bus__base64_read(text, text_len, back, len) == (int)len);
		must(memcmp(bytes, back, len) == 0);
		must(len == 0 || bus__base64_read(text, text_len, back, len - 1) == BUS_E_DECODE);
		free(text);
		free(back);
		free(bytes);
	}
}
END_TEST

START_TEST(other_forms_of_base64_are_refused)
{
	static const char *const texts[] = {"Z", "Zg", "Zg=", "Zg===", "Z===", "====", "=",
	    "Zh==", "Zm9=", "Zm-v", "Zm_v", "Zm9v\n", " Zm9v", "Zm 9v",
	    "Zg==Zg==", "Zm9v====", "Z=9v", "\xc3\xa4mv"};
	char bytes[16];

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		ck_assert_msg(bus__base64_read(texts[i], strlen(texts[i]), bytes, sizeof bytes) ==
				  BUS_E_DECODE,
		    "\"%s\" was read", texts[i]);
	ck_bus(bus__base64_read("Zm\0v", 4, bytes, sizeof bytes), BUS_E_DECODE);
}
END_TEST

/* --- secrets ------------------------------------------------------------------------------------------------------------ */

START_TEST(secrets_differ_by_any_bit)
{
	uint8_t a[BUS__SHA512] = {0}, b[BUS__SHA512] = {0};

	ck_assert(bus__same_secret(a, b, sizeof a));
	for (size_t bit = 0; bit < 8 * sizeof b; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		must(!bus__same_secret(a, b, sizeof a));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert(bus__same_secret(a, b, 0));
}
END_TEST

START_TEST(a_wiped_secret_is_gone)
{
	static const uint8_t none[32];
	uint8_t secret[32];

	memset(secret, 0x5a, sizeof secret);
	bus__wipe(secret, sizeof secret);
	ck_assert_mem_eq(secret, none, sizeof secret);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("digest");

	BUS_TEST_CASE(suite, "digests", sha512_is_that_of_fips_180, hmac_is_that_of_rfc_4231,
	    pbkdf2_has_the_known_answers, pbkdf2_ends_early_when_it_is_not_wanted_any_more);
	BUS_TEST_CASE(suite, "base64", base64_is_that_of_rfc_4648,
	    base64_of_every_length_reads_back, other_forms_of_base64_are_refused);
	BUS_TEST_CASE(suite, "secrets", secrets_differ_by_any_bit, a_wiped_secret_is_gone);
	return suite;
}
