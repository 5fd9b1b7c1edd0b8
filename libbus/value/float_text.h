/* value/float_text.h: numbers as JSON text. */
#ifndef BUS_VALUE_FLOAT_TEXT_H
#define BUS_VALUE_FLOAT_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { BUS__NUMBER_TEXT = 40 }; /* room for each of them */

/* Writes the fewest digits that read back as the same double, and marks it as no integer: "0.1", "2.0", "1e+21".
 * number is finite. Returns the length; there is no NUL. */
size_t bus__float_text(char *text, double number);

/* The same by printf and strtod: slow, but always right. For tests. */
size_t bus__float_text_slowly(char *text, double number);

size_t bus__int_text(char *text, int64_t number);
size_t bus__uint_text(char *text, uint64_t number);

#endif
