/* Numbers in JSON. printf and strtod take 2 µs for a double of 17 digits, which was most of the cost of a page's JSON. */
#include "value/float_text.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- integers ---------------------------------------------------------------------------------------------- */

size_t
bus__uint_text(char *text, uint64_t number)
{
	char digits[20];
	size_t len = 0;

	do
		digits[sizeof digits - ++len] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	memcpy(text, digits + sizeof digits - len, len);
	return len;
}

size_t
bus__int_text(char *text, int64_t number)
{
	if (number >= 0)
		return bus__uint_text(text, (uint64_t)number);
	text[0] = '-';
	return 1 + bus__uint_text(text + 1, -(uint64_t)number);
}

/* --- the general way ------------------------------------------------------------------------------------------ */

size_t
bus__float_text_slowly(char *text, double number)
{
	char printed[BUS__NUMBER_TEXT];
	bool pointed = false, exponent = false;
	size_t len = 0;

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(printed, sizeof printed, "%.*g", digits, number);
		if (strtod(printed, NULL) == number)
			break;
	}
	for (const char *at = printed; *at != '\0'; at++) {
		if (strchr("0123456789+-e", *at) != NULL) {
			text[len++] = *at;
			exponent |= *at == 'e';
		} else if (!pointed) {
			/* The locale's decimal point, which may be a comma or several bytes. */
			text[len++] = '.';
			pointed = true;
		}
	}
	if (!pointed && !exponent) {
		text[len++] = '.';
		text[len++] = '0';
	}
	return len;
}

/* --- the quick way ------------------------------------------------------------------------------------------------ */

/* A positive number as digits times a power of ten. */
struct decimal {
	uint64_t digits;
	int count; /* of the digits, trailing zeros included */
	int ten;   /* power of ten of the first digit */
};

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 wide;

enum {
	MANTISSA_BITS = 52,
	FIVES = 31,       /* 5^31 times a mantissa of 53 bits, and 4, fits 128 bits */
	FIVES_NARROW = 27 /* 5^27 fits 64 */
};

#define TEN_16 UINT64_C(10000000000000000)

static wide
power_of_five(int power)
{
	wide product = 1;

	for (; power > FIVES_NARROW; power--)
		product *= 5;
	for (uint64_t five = 1, left = (uint64_t)power;; left--, five *= 5)
		if (left == 0)
			return product * five;
}

/* The double is `scaled` / 2^shift / 10^(16 - ten), exactly, with 17 digits before the binary point. A number less than `above`
 * over it or `below` under it, both in units of scaled, reads back as the same double; a number exactly there does, too, if the
 * mantissa is even. */
struct exact {
	wide scaled, above, below;
	int shift, ten;
	bool even;
};

/* False: too large or small for 128 bits. */
static bool
scale(uint64_t mantissa, int two, int ten, struct exact *ret_exact)
{
	int power = 16 - ten, shift = 2 - two - power;
	wide five;

	if (power < 0 || power > FIVES || shift < 0 || shift > 70)
		return false;
	five = power_of_five(power);
	*ret_exact = (struct exact){.scaled = five * mantissa * 4,
	    .above = five * 2,
	    .below = mantissa == UINT64_C(1) << MANTISSA_BITS ? five : five * 2,
	    .shift = shift,
	    .ten = ten,
	    .even = mantissa % 2 == 0};
	return true;
}

/* Rounds to 17 digits less `fewer`, as printf does: to the nearest, from the middle to an even digit. False: the result reads
 * back as another double. */
static bool
round_to(const struct exact *exact, int fewer, struct decimal *ret_decimal)
{
	static const unsigned tens[] = {1, 10, 100};
	uint64_t whole = (uint64_t)(exact->scaled >> exact->shift), kept = whole / tens[fewer];
	wide unit = (wide)tens[fewer] << exact->shift;
	wide down = exact->scaled - ((wide)kept * tens[fewer] << exact->shift), up = unit - down;
	bool rises = down > up || (down == up && kept % 2 == 1);
	wide off = rises ? up : down, most = rises ? exact->above : exact->below;

	if (off > most || (off == most && !exact->even && off != 0))
		return false;
	*ret_decimal = (struct decimal){kept + rises, 17 - fewer, exact->ten};
	if (ret_decimal->digits >= 10 * (TEN_16 / tens[fewer])) { /* 9.99 became 10 */
		ret_decimal->digits /= 10;
		ret_decimal->ten++;
	}
	return true;
}

static bool
shortest(double number, struct decimal *ret_decimal)
{
	struct exact exact;
	uint64_t bits, mantissa, whole;
	int two, ten;

	memcpy(&bits, &number, sizeof bits);
	two = (int)(bits >> MANTISSA_BITS) - 1075;
	if (two == -1075)
		return false; /* subnormal */
	mantissa = (bits & ((UINT64_C(1) << MANTISSA_BITS) - 1)) | UINT64_C(1) << MANTISSA_BITS;
	/* log10(2) is 0.30103; the estimate is right or one too small, or one too large by rounding. */
	ten = (two + MANTISSA_BITS) * 30103;
	ten = (ten < 0 ? ten - 99999 : ten) / 100000;
	for (int tries = 0; tries < 3; tries++) {
		if (!scale(mantissa, two, ten, &exact))
			return false;
		whole = (uint64_t)(exact.scaled >> exact.shift);
		if (exact.scaled >> exact.shift >= (wide)TEN_16 * 10)
			ten++;
		else if (whole < TEN_16)
			ten--;
		else
			return round_to(&exact, 2, ret_decimal) ||
			       round_to(&exact, 1, ret_decimal) || round_to(&exact, 0, ret_decimal);
	}
	return false;
}

#else

static bool
shortest(double number, struct decimal *ret_decimal)
{
	(void)number;
	(void)ret_decimal;
	return false;
}

#endif

/* Digits with a point behind the first one, and an exponent of at least two digits. */
static size_t
put_exponent(char *text, const char *digits, size_t count, int ten)
{
	size_t len = 0;

	text[len++] = digits[0];
	if (count > 1) {
		text[len++] = '.';
		memcpy(text + len, digits + 1, count - 1);
		len += count - 1;
	}
	text[len++] = 'e';
	text[len++] = ten < 0 ? '-' : '+';
	ten = ten < 0 ? -ten : ten;
	if (ten < 10)
		text[len++] = '0';
	return len + bus__uint_text(text + len, (uint64_t)ten);
}

/* Digits and zeros with a point somewhere. */
static size_t
put_plain(char *text, const char *digits, size_t count, int ten)
{
	size_t whole = ten < 0 ? 0 : (size_t)ten + 1, zeros = ten < 0 ? (size_t)(-ten - 1) : 0,
	       len = 0;

	if (whole == 0)
		text[len++] = '0';
	for (size_t i = 0; i < whole; i++)
		text[len++] = i < count ? digits[i] : '0';
	text[len++] = '.';
	if (whole >= count) {
		text[len++] = '0';
		return len;
	}
	memset(text + len, '0', zeros);
	len += zeros;
	memcpy(text + len, digits + whole, count - whole);
	return len + count - whole;
}

size_t
bus__float_text(char *text, double number)
{
	char digits[BUS__NUMBER_TEXT];
	struct decimal decimal;
	size_t count, sign = 0;
	int precision;

	if (signbit(number)) {
		text[sign++] = '-';
		number = -number;
	}
	/* Integers of up to 15 digits: nothing is rounded. */
	if (number < 1e15 && (double)(uint64_t)number == number) {
		sign += bus__uint_text(text + sign, (uint64_t)number);
		text[sign++] = '.';
		text[sign++] = '0';
		return sign;
	}
	if (!shortest(number, &decimal))
		return sign + bus__float_text_slowly(text + sign, number);
	precision = decimal.count;
	count = bus__uint_text(digits, decimal.digits);
	while (count > 1 && digits[count - 1] == '0')
		count--;
	/* As printf's %g decides. */
	if (decimal.ten < -4 || decimal.ten >= precision)
		return sign + put_exponent(text + sign, digits, count, decimal.ten);
	return sign + put_plain(text + sign, digits, count, decimal.ten);
}
