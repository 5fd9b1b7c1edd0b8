/* base/utf8.h: UTF-8 validation. */
#ifndef BUS_BASE_UTF8_H
#define BUS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether len bytes are well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong forms).
 * NUL bytes are well-formed. */
bool bus__utf8_valid(const void *text, size_t len);

/* The length of the well-formed beginning: len, or the offset of the first ill-formed sequence. */
size_t bus__utf8_valid_bytes(const void *text, size_t len);

#endif
