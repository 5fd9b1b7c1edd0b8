#include "base/base64.h"

#include <stdint.h>

#include <libbus/error.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t
bus__base64_write(const void *data, size_t len, char *ret_text)
{
	const uint8_t *bytes = data;
	char *to = ret_text;

	for (size_t at = 0; at < len; at += 3) {
		size_t left = len - at;
		uint32_t three = (uint32_t)bytes[at] << 16;

		if (left > 1)
			three |= (uint32_t)bytes[at + 1] << 8;
		if (left > 2)
			three |= bytes[at + 2];
		*to++ = digits[three >> 18];
		*to++ = digits[three >> 12 & 63];
		*to++ = left > 1 ? digits[three >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[three & 63] : '=';
	}
	return (size_t)(to - ret_text);
}

/* -1: not a digit. The time depends on the text: it is a salt or a proof, which the peer or the file shows. */
static int
digit(char c)
{
	for (int i = 0; i < 64; i++)
		if (digits[i] == c)
			return i;
	return -1;
}

int
bus__base64_read(const char *text, size_t len, void *ret_data, size_t room)
{
	uint8_t *to = ret_data;
	size_t padding = 0, bytes;
	uint32_t bits = 0;

	if (len % 4 != 0)
		return BUS_E_DECODE;
	while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
		padding++;
	bytes = len / 4 * 3 - padding;
	if (bytes > room || bytes > INT32_MAX)
		return BUS_E_DECODE;
	for (size_t i = 0; i < len; i++) {
		int value = i < len - padding ? digit(text[i]) : 0;

		if (value < 0)
			return BUS_E_DECODE;
		bits = bits << 6 | (uint32_t)value;
		if (i % 4 != 3)
			continue;
		for (int shift = 16; shift >= 0; shift -= 8) {
			uint8_t byte = (uint8_t)(bits >> shift);

			if ((size_t)(to - (uint8_t *)ret_data) < bytes)
				*to++ = byte;
			else if (byte != 0)
				return BUS_E_DECODE;
		}
	}
	return (int)bytes;
}
