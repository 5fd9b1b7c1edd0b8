/* base/base64.h: bytes as text (RFC 4648, section 4), with padding. */
#ifndef BUS_BASE_BASE64_H
#define BUS_BASE_BASE64_H

#include <stddef.h>

/* The number of characters for len bytes. */
#define BUS__BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Writes BUS__BASE64_LEN(len) characters, without a NUL byte, and returns how many. */
size_t bus__base64_write(const void *data, size_t len, char *ret_text);

/* Returns the number of bytes, or BUS_E_DECODE: not base64, or more than `room`. Bytes have exactly one text: complete
 * padding, 0 in the unused bits of the last digit, and no spaces. */
int bus__base64_read(const char *text, size_t len, void *ret_data, size_t room);

#endif
