/* value/ext.h: the known extensions; docs/payloads.md has their bytes. */
#ifndef BUS_VALUE_EXT_H
#define BUS_VALUE_EXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/pack.h>

enum {
	BUS__TIME_BYTES = 12,       /* the longest form of a time */
	BUS__TIME_TEXT = 32,        /* room for bus__time_text() */
	BUS__NUMBERS_HEAD = 4,      /* before the shape */
	BUS__NUMBERS_ALIGNMENT = 16 /* of the numbers, from the first byte of the payload */
};

/* Whether data is the text of a decimal, a UUID or a date, as ext says. */
bool bus__ext_is_text(int8_t ext, const char *data, size_t len);

/* Whether data is a time of the years 1 to 9999. */
bool bus__ext_time(const char *data, size_t len, int64_t *ret_seconds, uint32_t *ret_nanoseconds);

bool bus__time_is_valid(int64_t seconds, uint32_t nanoseconds);

/* Writes the shortest form of a valid time; returns its length: 4, 8 or 12. */
size_t bus__time_write(char data[BUS__TIME_BYTES], int64_t seconds, uint32_t nanoseconds);

/* "2026-11-30T07:51:18.250Z", with 0, 3, 6 or 9 digits of the second. Returns its length. */
size_t bus__time_text(char text[BUS__TIME_TEXT], int64_t seconds, uint32_t nanoseconds);

/* Days since 1970-01-01 of a date of the years 1 to 9999. */
int64_t bus__days_of(int year, int month, int day);
void bus__date_of(int64_t days, int *ret_year, int *ret_month, int *ret_day);

/* Whether data is an array of numbers; ret_numbers->data points into it. */
bool bus__numbers_read(const char *data, size_t len, struct bus_numbers *ret_numbers);

/* Whether kind, item_bytes and dimensions are valid, and len agrees with them and the shape. */
bool bus__numbers_are_valid(const struct bus_numbers *numbers);

#endif
