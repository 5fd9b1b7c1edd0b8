/* named/rest.c: threads of a named bus rest. One of them, the leader, sleeps on the log; the others sleep on words of their own, and one of them
 * is handed the lead. */
#include <pthread.h>

#include "base/park.h"
#include "bus/bus_internal.h"
#include "named/members.h"
#include "named/state.h"
#include "named/watch_parts.h"

/* A thread that rests; on its stack. */
struct watch_waiter {
	_Atomic uint32_t *word;
	uint32_t handed; /* how often it was given the lead; each time changed the word */
	bool is_listed;
	struct watch_waiter *next, *prev;
};

/* The relay goes last: a leader that drains a mailbox handles a hit on it without waking another thread. Watch lock here and below. */
static void
list_waiter(struct watch *w, struct watch_waiter *me, bool is_relay)
{
	me->next = is_relay ? NULL : w->first;
	me->prev = is_relay ? w->last : NULL;
	*(me->prev != NULL ? &me->prev->next : &w->first) = me;
	*(me->next != NULL ? &me->next->prev : &w->last) = me;
	me->is_listed = true;
}

static void
unlist_waiter(struct watch *w, struct watch_waiter *me)
{
	if (!me->is_listed)
		return;
	*(me->prev != NULL ? &me->prev->next : &w->first) = me->next;
	*(me->next != NULL ? &me->next->prev : &w->last) = me->prev;
	me->is_listed = false;
}

/* Makes the first waiter the leader. Its word and `handed` change together, under the lock. */
static void
hand_on(struct watch *w)
{
	struct watch_waiter *next = w->first;

	w->leader = next;
	if (next == NULL)
		return;
	unlist_waiter(w, next);
	next->handed++;
	atomic_fetch_add_explicit(next->word, 1, memory_order_release);
	bus__unpark(next->word);
}

/* Sleeps on the log once, for all threads. Watch lock, released while it sleeps. */
static int
lead(struct bus *bus, struct watch_waiter *me, uint32_t expected, int64_t deadline_ns)
{
	struct watch *w = &bus->named->watch;
	/* Read before anything else: news from here on changes it. */
	uint32_t news = bus__log_news(bus->log);
	uint64_t tail = bus__log_tail(bus->log);
	int woken;

	bus__scan(bus, UINT64_MAX, me->word);
	/* The scan stopped short of the tail: the log is damaged. Each mailbox finds that out itself. */
	if (w->quiet != NULL &&
	    (bus__log_position(&w->place) < tail || bus__log_is_damaged(bus->log)))
		bus__watch_hit_all(w, place_of(&w->place), me->word);
	atomic_store_explicit(&w->sleeper, me->word, memory_order_seq_cst);
	if (atomic_load_explicit(me->word, memory_order_seq_cst) != expected ||
	    (w->quiet != NULL && !bus__log_ask(bus->log, bus__log_position(&w->place)))) {
		atomic_store_explicit(&w->sleeper, NULL, memory_order_relaxed);
		return 0;
	}
	pthread_mutex_unlock(&w->lock);
	bus__members_heed(bus);
	woken = bus__log_sleep(bus->log, news, deadline_ns);
	pthread_mutex_lock(&w->lock);
	atomic_store_explicit(&w->sleeper, NULL, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->sleeps, 1, memory_order_relaxed);
	return woken;
}

int
bus__watch_sleep(
    struct bus *bus, _Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns, bool is_relay)
{
	struct watch *w = &bus->named->watch;
	struct watch_waiter me = {.word = word};
	int woken = 0;

	pthread_mutex_lock(&w->lock);
	/* Acquire: pairs with the change of the word, so that the reason for it is seen. */
	while (woken == 0 && atomic_load_explicit(word, memory_order_acquire) == seen + me.handed) {
		uint32_t expected = seen + me.handed;

		if (w->leader == NULL)
			w->leader = &me;
		if (w->leader == &me) {
			woken = lead(bus, &me, expected, deadline_ns);
			continue;
		}
		list_waiter(w, &me, is_relay);
		pthread_mutex_unlock(&w->lock);
		woken = bus__park(word, expected, deadline_ns);
		pthread_mutex_lock(&w->lock);
		unlist_waiter(w, &me);
	}
	if (w->leader == &me)
		hand_on(w);
	pthread_mutex_unlock(&w->lock);
	return woken;
}

void
bus__watch_call(struct bus *bus, _Atomic uint32_t *word)
{
	if (atomic_load_explicit(&bus->named->watch.sleeper, memory_order_seq_cst) == word)
		bus__log_call(bus->log);
}
