/* bus/page.c: a text for people, line by line, into a buffer of the caller. */
#include "bus/page.h"

#include <stdarg.h>
#include <stdio.h>

void
bus__line(struct page *page, const char *format, ...)
{
	size_t room = page->len < page->cap ? page->cap - page->len : 0;
	char *text = room > 0 ? page->text + page->len : NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, room, format, args);
	va_end(args);
	if (len < 0)
		return;
	/* A name may hold any character, and must not begin a new line. */
	for (size_t i = 0; i < (size_t)len && i + 1 < room; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
	if ((size_t)len + 1 < room)
		text[len] = '\n';
	page->len += (size_t)len + 1;
}

void
bus__page_end(struct page *page)
{
	if (page->cap > 0)
		page->text[page->len < page->cap ? page->len : page->cap - 1] = '\0';
}
