#include "push/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { FIRST = 256, LINE = 256 };

static bool
make_room(struct text *text, size_t len)
{
	size_t cap = text->cap != 0 ? text->cap : FIRST;
	char *at;

	if (len > SIZE_MAX / 4 - text->len)
		text->failed = true;
	if (text->failed)
		return false;
	while (cap - text->len < len)
		cap *= 2;
	if (cap == text->cap)
		return true;
	at = bus__realloc(text->at, cap);
	text->failed = at == NULL;
	if (text->failed)
		return false;
	text->at = at;
	text->cap = cap;
	return true;
}

void
bus__text_add(struct text *text, const char *bytes, size_t len)
{
	if (len == 0 || !make_room(text, len))
		return;
	memcpy(text->at + text->len, bytes, len);
	text->len += len;
}

void
bus__text_format(struct text *text, const char *format, ...)
{
	char line[LINE];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	bus__text_add(text, line, len < LINE ? (size_t)len : LINE - 1);
}

void
bus__text_free(struct text *text)
{
	bus__free(text->at);
	*text = (struct text){.at = NULL};
}
