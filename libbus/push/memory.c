#include "push/memory.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "push/state.h"

#define LINGER_NS INT64_C(120000000000)

enum { LINGER_MOST = 256 /* filters without a page */ };

/* --- events ------------------------------------------------------------------------------------------------------------ */

static void
forget(struct memory *memory, uint32_t count)
{
	for (; count > 0; count--) {
		bus_msg_free(memory->events[memory->first].msg);
		bus__frame_unref(memory->events[memory->first].frame);
		memory->first = (memory->first + 1) % memory->cap;
		memory->count--;
	}
}

void
bus__memory_add(struct memory *memory, const struct bus_msg *msg)
{
	const struct bus_msg *kept;

	memory->last++;
	if (memory->events == NULL)
		memory->events = bus__calloc(memory->cap, sizeof *memory->events);
	if (memory->events == NULL)
		return;
	if (bus_msg_keep(msg, &kept) < 0) {
		forget(memory, memory->count);
		return;
	}
	if (memory->count == memory->cap)
		forget(memory, 1);
	memory->events[(memory->first + memory->count) % memory->cap] = (struct remembered){
	    .position = memory->last, .time_ns = bus__wall_coarse_ns(), .msg = kept};
	memory->count++;
}

void
bus__memory_break(struct memory *memory)
{
	if (memory->events != NULL)
		forget(memory, memory->count);
	memory->last++; /* a page that has seen all before it lacks the lost messages */
}

struct remembered *
bus__memory_at(const struct memory *memory, uint32_t i)
{
	return &memory->events[(memory->first + i) % memory->cap];
}

/* --- filters ----------------------------------------------------------------------------------------------------------- */

static void
end_linger(struct memory *memory, struct lingering **at)
{
	struct lingering *linger = *at;

	*at = linger->next;
	memory->linger_count--;
	bus_unsubscribe(linger->sub, NULL);
	bus__free(linger);
}

/* Ends filters that no page has wanted for long, and over the limit the one unwanted for longest. */
static void
tidy(struct memory *memory)
{
	int64_t now_ns = bus__now_ns(), oldest_ns = INT64_MAX;
	struct lingering **at = &memory->lingers, **oldest = NULL;

	while (*at != NULL) {
		struct lingering *linger = *at;

		if (linger->pages == 0 && now_ns - linger->left_ns > LINGER_NS) {
			end_linger(memory, at);
			continue;
		}
		if (linger->pages == 0 && linger->left_ns < oldest_ns) {
			oldest_ns = linger->left_ns;
			oldest = at;
		}
		at = &linger->next;
	}
	if (memory->linger_count > LINGER_MOST && oldest != NULL)
		end_linger(memory, oldest);
}

static struct lingering *
find(const struct memory *memory, const char *filter)
{
	struct lingering *linger = memory->lingers;

	while (linger != NULL && strcmp(linger->filter, filter) != 0)
		linger = linger->next;
	return linger;
}

static struct lingering *
add(struct bus_push *push, const char *filter)
{
	struct memory *memory = &push->memory;
	size_t size = strlen(filter) + 1;
	struct lingering *linger = bus__calloc(1, sizeof *linger + size);

	if (linger == NULL)
		return NULL;
	memcpy(linger->filter, filter, size);
	linger->push = push;
	if (bus_mailbox_subscribe(push->mbox, filter, bus__push_remember, linger, &linger->sub) <
	    0) {
		bus__free(linger);
		return NULL;
	}
	linger->since = memory->last;
	linger->next = memory->lingers;
	memory->lingers = linger;
	memory->linger_count++;
	return linger;
}

bool
bus__memory_take(struct bus_push *push, const char *filter, struct wish *wish)
{
	struct lingering *linger = find(&push->memory, filter);

	if (linger == NULL) {
		tidy(&push->memory);
		linger = add(push, filter);
	}
	if (linger == NULL)
		return false;
	linger->pages++;
	if (wish != NULL) {
		wish->linger = linger;
		wish->next = linger->wishes;
		if (wish->next != NULL)
			wish->next->prev = wish;
		linger->wishes = wish;
	}
	return true;
}

void
bus__memory_give(struct wish *wish)
{
	struct lingering *linger = wish->linger;

	if (linger == NULL)
		return;
	*(wish->prev != NULL ? &wish->prev->next : &linger->wishes) = wish->next;
	if (wish->next != NULL)
		wish->next->prev = wish->prev;
	wish->linger = NULL;
	if (--linger->pages == 0)
		linger->left_ns = bus__now_ns();
}

bool
bus__memory_reaches(const struct memory *memory, const char *filter, uint64_t position)
{
	const struct lingering *linger = memory->lingers;

	/* A wider one will do: a page may have had both, and keeps the wider. */
	while (linger != NULL &&
	       (linger->since > position || bus_filter_covers(linger->filter, filter) != 1))
		linger = linger->next;
	return linger != NULL && position <= memory->last &&
	       memory->last - position <= memory->count;
}

void
bus__memory_free(struct memory *memory)
{
	while (memory->lingers != NULL)
		end_linger(memory, &memory->lingers);
	if (memory->events != NULL)
		forget(memory, memory->count);
	bus__free(memory->events);
	memory->events = NULL;
}
