/* push/memory.h: the last events of a private bus, for reconnecting pages. A named bus has its log for that.
 *
 * It remembers messages that a lingering filter matches. A filter lingers while a page has it, and two minutes longer. */
#ifndef BUS_PUSH_MEMORY_H
#define BUS_PUSH_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "push/frame.h"

struct bus_push;
struct wish;

struct remembered {
	uint64_t position;
	int64_t time_ns;
	const struct bus_msg *msg; /* owned */
	struct frame *frame;       /* with topic and value; NULL: not replayed yet */
};

struct lingering {
	struct lingering *next;
	struct bus_push *push;
	struct bus_sub *sub;
	struct wish *wishes; /* of its pages */
	uint64_t since;      /* all matching messages after this position are remembered */
	int64_t left_ns;     /* when its last page left */
	uint32_t pages;      /* plus one for `remember` */
	char filter[];
};

struct memory {
	struct remembered *events; /* a ring */
	uint32_t cap, first, count;
	uint64_t last; /* position of the newest; the positions have no holes */
	struct lingering *lingers;
	uint32_t linger_count;
};

/* Remembers a message as the newest. Without memory for it, forgets the older ones too, so that there is no hole. */
void bus__memory_add(struct memory *memory, const struct bus_msg *msg);

/* The i-th of memory->count, the oldest first. */
struct remembered *bus__memory_at(const struct memory *memory, uint32_t i);

/* Messages were lost: no page can resume from an id before now. */
void bus__memory_break(struct memory *memory);

/* Adds a page's wish to its lingering filter, or makes that; NULL: one that never ends. false: out of memory. */
bool bus__memory_take(struct bus_push *push, const char *filter, struct wish *wish);
void bus__memory_give(struct wish *wish); /* fine for a wish without a lingering filter */

/* Whether all messages that the filter matches after this position are remembered. */
bool bus__memory_reaches(const struct memory *memory, const char *filter, uint64_t position);

void bus__memory_free(struct memory *memory);

#endif
