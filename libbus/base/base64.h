/* base/base64.h: bytes as text (RFC 4648, section 4), with padding. */
#ifndef BUS_BASE_BASE64_H
#define BUS_BASE_BASE64_H

#include <stddef.h>

/* Characters that len bytes become. */
#define BUS__BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Writes BUS__BASE64_LEN(len) characters, without a NUL byte, and returns how many. */
size_t bus__base64_write(const void *data, size_t len, char *ret_text);

/* Returns the number of bytes, or BUS_E_DECODE: not base64, or more than `room`. Each text of bytes has one form: padding is
 * complete, the bits that pad the last byte are 0, and there is no space. */
int bus__base64_read(const char *text, size_t len, void *ret_data, size_t room);

#endif
