/* base/sized.h: public structs that begin with their size, from callers compiled with another version of the headers.
 *
 * Each such struct has a row in sized.c, which keeps the size of its first version. A new field goes to the end, makes the
 * struct larger, and leaves no padding behind it: callers do not clear padding. */
#ifndef BUS_BASE_SIZED_H
#define BUS_BASE_SIZED_H

#include <stddef.h>

#include <libbus/error.h>

/* Above every version: a larger size was not set. */
#define SIZED_MOST 4096

enum {
	SIZED_MSG,
	SIZED_CONFIG,
	SIZED_PUB_CONFIG,
	SIZED_MAILBOX_CONFIG,
	SIZED_KEEP_CONFIG,
	SIZED_LINK_CONFIG,
	SIZED_STATS,
	SIZED_LINK_STATS,
	SIZED_LOG_STATS,
	SIZED_MEMBER,
	SIZED_TRANSPORT,
	SIZED_PUSH_CONFIG,
	SIZED_PAGE_CONFIG,
	SIZED_PUSH_STATS,
	SIZED_KINDS
};

struct sized {
	const char *name;
	size_t first; /* in the first version with this struct: the smallest that callers have */
	size_t now;   /* in this version */
};

extern const struct sized bus__sized[SIZED_KINDS];

/* --- structs that the library reads --------------------------------------------------------------------------------- */

/* Points `at`, NULL or the caller's struct, to a struct of this version: the caller's own, or a copy in *room.
 * 0, or BUS_E_INVAL with its sentence. */
#define BUS__SIZED_IN(kind, at, room)                                                              \
	((at) == NULL || (at)->size == sizeof *(at)            ? 0                                 \
	    : bus__sized_read(&bus__sized[kind], at, room) < 0 ? BUS_E_INVAL                       \
							       : ((at) = (room), 0))

/* Copies a struct of another size into *ret_copy, which is of this version. BUS_E_INVAL with its sentence: no version has
 * this size, or a field of a newer version is set. */
int bus__sized_read(const struct sized *kind, const void *given, void *ret_copy)
    __attribute__((cold, noinline));

/* --- structs that the library fills --------------------------------------------------------------------------------- */

/* 0, or BUS_E_INVAL with its sentence: no version has this size. */
int bus__sized_check(const struct sized *kind, size_t size);

/* Copies `from`, which is of this version, into a struct whose size was checked. Keeps that size, and clears the fields of
 * newer versions. */
void bus__sized_write(const struct sized *kind, const void *from, void *ret_given);

#endif
