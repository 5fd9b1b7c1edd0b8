/* push/text.h: a text that grows. The first failure sticks. */
#ifndef BUS_PUSH_TEXT_H
#define BUS_PUSH_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *at;
	size_t len, cap;
	bool failed; /* out of memory */
};

void bus__text_add(struct text *text, const char *bytes, size_t len);
void bus__text_format(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void bus__text_free(struct text *text);

#endif
