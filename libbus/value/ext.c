/* The known extensions. Nothing here fails: bytes of another form are an unknown extension. */
#include "value/ext.h"

#include <stdio.h>
#include <string.h>

#include "base/error_text.h"
#include <libbus/error.h>

/* --- decimals, UUIDs and dates ------------------------------------------------------------------------ */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *
digits_end(const char *at, const char *end)
{
	while (at < end && is_digit(*at))
		at++;
	return at;
}

static bool
is_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - at) == len && memcmp(at, word, len) == 0;
}

/* E, a sign and at most 9 digits: some libraries stop at an exponent of 425,000,000, others at that of an int. */
static bool
is_exponent(const char *at, const char *end)
{
	if (end - at < 3 || *at != 'E' || (at[1] != '+' && at[1] != '-'))
		return false;
	at += 2;
	return end - at <= 9 && digits_end(at, end) == end;
}

static bool
is_decimal(const char *at, const char *end)
{
	const char *whole;

	if (at < end && *at == '-')
		at++;
	if (is_word(at, end, "Infinity") || is_word(at, end, "NaN"))
		return true;
	whole = at;
	at = digits_end(at, end);
	if (at == whole)
		return false;
	if (end - at > 1 && *at == '.' && is_digit(at[1]))
		at = digits_end(at + 1, end);
	return at == end || is_exponent(at, end);
}

static bool
is_uuid(const char *text, size_t len)
{
	if (len != 36)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !is_digit(text[i]) && (text[i] < 'a' || text[i] > 'f'))
			return false;
	}
	return true;
}

static int
two_digits(const char *at)
{
	return (at[0] - '0') * 10 + (at[1] - '0');
}

static int
days_in(int year, int month)
{
	static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

static bool
is_date(const char *text, size_t len)
{
	int year, month, day;

	if (len != 10 || text[4] != '-' || text[7] != '-' ||
	    digits_end(text, text + 4) != text + 4 || digits_end(text + 5, text + 7) != text + 7 ||
	    digits_end(text + 8, text + 10) != text + 10)
		return false;
	year = two_digits(text) * 100 + two_digits(text + 2);
	month = two_digits(text + 5);
	day = two_digits(text + 8);
	return year >= 1 && month >= 1 && month <= 12 && day >= 1 && day <= days_in(year, month);
}

bool
bus__ext_is_text(int8_t ext, const char *data, size_t len)
{
	switch (ext) {
	case BUS_EXT_DECIMAL:
		return is_decimal(data, data + len);
	case BUS_EXT_UUID:
		return is_uuid(data, len);
	case BUS_EXT_DATE:
		return is_date(data, len);
	default:
		return false;
	}
}

/* --- times ------------------------------------------------------------------------------------------------ */

#define FIRST_SECOND  INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define LAST_SECOND   INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DAY_SECONDS   INT64_C(86400)
#define ERA_DAYS      INT64_C(146097) /* 400 years, after which the calendar repeats */
#define ERA_TO_1970   INT64_C(719468) /* days from 0000-03-01 to 1970-01-01 */
#define NS_PER_SECOND 1000000000u

static uint64_t
big_endian(const char *data, size_t len)
{
	uint64_t number = 0;

	for (size_t i = 0; i < len; i++)
		number = number << 8 | (unsigned char)data[i];
	return number;
}

static void
put_big_endian(char *data, size_t len, uint64_t number)
{
	for (size_t i = len; i > 0; i--, number >>= 8)
		data[i - 1] = (char)(number & 0xff);
}

bool
bus__time_is_valid(int64_t seconds, uint32_t nanoseconds)
{
	return seconds >= FIRST_SECOND && seconds <= LAST_SECOND && nanoseconds < NS_PER_SECOND;
}

bool
bus__ext_time(const char *data, size_t len, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
	uint64_t number;

	switch (len) {
	case 4:
		*ret_seconds = (int64_t)big_endian(data, 4);
		*ret_nanoseconds = 0;
		break;
	case 8: /* 30 bits of nanoseconds, 34 of seconds */
		number = big_endian(data, 8);
		*ret_seconds = (int64_t)(number & ((UINT64_C(1) << 34) - 1));
		*ret_nanoseconds = (uint32_t)(number >> 34);
		break;
	case 12:
		*ret_nanoseconds = (uint32_t)big_endian(data, 4);
		*ret_seconds = (int64_t)big_endian(data + 4, 8);
		break;
	default:
		return false;
	}
	return bus__time_is_valid(*ret_seconds, *ret_nanoseconds);
}

size_t
bus__time_write(char data[BUS__TIME_BYTES], int64_t seconds, uint32_t nanoseconds)
{
	if (seconds >= 0 && seconds <= (int64_t)UINT32_MAX && nanoseconds == 0) {
		put_big_endian(data, 4, (uint64_t)seconds);
		return 4;
	}
	if (seconds >= 0 && seconds < INT64_C(1) << 34) {
		put_big_endian(data, 8, (uint64_t)nanoseconds << 34 | (uint64_t)seconds);
		return 8;
	}
	put_big_endian(data, 4, nanoseconds);
	put_big_endian(data + 4, 8, (uint64_t)seconds);
	return 12;
}

/* Years here begin in March, so the leap day is the last day of one. */
int64_t
bus__days_of(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1, era = y / 400, of_era = y % 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - ERA_TO_1970;
}

void
bus__date_of(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
	int64_t since = days + ERA_TO_1970; /* not negative: years from 1 on */
	int64_t era = since / ERA_DAYS, of_era = since % ERA_DAYS;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153; /* 0: March */

	*ret_day = (int)(of_year - (153 * month + 2) / 5 + 1);
	*ret_month = (int)(month < 10 ? month + 3 : month - 9);
	*ret_year = (int)(year + era * 400 + (*ret_month <= 2));
}

size_t
bus__time_text(char text[BUS__TIME_TEXT], int64_t seconds, uint32_t nanoseconds)
{
	int64_t of_day = ((seconds % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;
	int year, month, day, len, digits = 9;

	bus__date_of((seconds - of_day) / DAY_SECONDS, &year, &month, &day);
	len = snprintf(text, BUS__TIME_TEXT, "%04u-%02u-%02uT%02u:%02u:%02u",
	    (unsigned)year % 10000, (unsigned)month % 100, (unsigned)day % 100,
	    (unsigned)(of_day / 3600), (unsigned)(of_day / 60 % 60), (unsigned)(of_day % 60));
	while (digits > 0 && nanoseconds % 1000 == 0) {
		nanoseconds /= 1000;
		digits -= 3;
	}
	if (digits > 0)
		len += snprintf(text + len, BUS__TIME_TEXT - (size_t)len, ".%0*u", digits,
		    (unsigned)nanoseconds);
	return (size_t)len + (size_t)snprintf(text + len, BUS__TIME_TEXT - (size_t)len, "Z");
}

/* --- arrays of numbers -------------------------------------------------------------------------------------- */

static bool
is_item(char kind, uint8_t bytes)
{
	switch (kind) {
	case 'b':
		return bytes == 1;
	case 'i':
	case 'u':
		return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
	case 'f':
		return bytes == 2 || bytes == 4 || bytes == 8;
	case 'c':
		return bytes == 8 || bytes == 16;
	default:
		return false;
	}
}

bool
bus__numbers_are_valid(const struct bus_numbers *numbers)
{
	uint64_t bytes = numbers->item_bytes;
	bool none = false;

	if (!is_item(numbers->kind, numbers->item_bytes) ||
	    numbers->dimensions > BUS_NUMBERS_DIMENSIONS || numbers->len > UINT32_MAX)
		return false;
	for (int i = 0; i < numbers->dimensions; i++)
		none |= numbers->shape[i] == 0;
	/* Without a 0 among them the factors only grow the product, so a product over the limit may stop here. */
	for (int i = 0; !none && i < numbers->dimensions; i++) {
		bytes *= numbers->shape[i];
		if (bytes > numbers->len)
			return false;
	}
	return none ? numbers->len == 0 : bytes == numbers->len;
}

bool
bus__numbers_read(const char *data, size_t len, struct bus_numbers *ret_numbers)
{
	size_t head;

	if (len < BUS__NUMBERS_HEAD)
		return false;
	ret_numbers->kind = data[0];
	ret_numbers->item_bytes = (uint8_t)data[1];
	ret_numbers->dimensions = (uint8_t)data[2];
	if (ret_numbers->dimensions > BUS_NUMBERS_DIMENSIONS)
		return false;
	head = BUS__NUMBERS_HEAD + 4 * (size_t)ret_numbers->dimensions + (uint8_t)data[3];
	if (head > len)
		return false;
	for (int i = 0; i < ret_numbers->dimensions; i++)
		ret_numbers->shape[i] =
		    (uint32_t)big_endian(data + BUS__NUMBERS_HEAD + 4 * (size_t)i, 4);
	ret_numbers->data = data + head;
	ret_numbers->len = len - head;
	return bus__numbers_are_valid(ret_numbers);
}

int
bus_value_numbers(const struct bus_value *value, struct bus_numbers *ret_numbers)
{
	struct bus_numbers numbers;

	if (value == NULL || ret_numbers == NULL)
		return bus__answer(BUS_E_INVAL);
	if (value->kind != BUS_KIND_EXT || value->ext != BUS_EXT_NUMBERS ||
	    !bus__numbers_read(value->as.bytes, value->count, &numbers))
		return bus__answer(BUS_E_DECODE);
	*ret_numbers = numbers;
	return 0;
}
