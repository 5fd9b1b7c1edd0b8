/* bus/page.h: a text for people, line by line, into a buffer of the caller. */
#ifndef BUS_BUS_PAGE_H
#define BUS_BUS_PAGE_H

#include <stddef.h>

/* As much of the text as fits, and the length of all of it. */
struct page {
	char *text;
	size_t cap, len;
};

/* Adds a line. A character that would end it early becomes a question mark. */
__attribute__((format(printf, 2, 3))) void bus__line(struct page *page, const char *format, ...);

/* Ends the text with NUL. */
void bus__page_end(struct page *page);

#endif
