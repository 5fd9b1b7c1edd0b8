/* bus/inbox.c: the open questions, and the way of a reply into a mailbox. */
#include "bus/question.h"

#include "base/mem.h"
#include "base/siphash.h"
#include "bus/topic.h"
#include "mailbox/mailbox.h"

#define FIRST_BUCKETS 64

int
bus__inbox_init(struct inbox *inbox)
{
	return pthread_mutex_init(&inbox->lock, NULL) != 0 ? BUS_E_NOMEM : 0;
}

void
bus__inbox_fini(struct inbox *inbox)
{
	pthread_mutex_destroy(&inbox->lock);
	bus__free(inbox->buckets);
}

struct question **
bus__question_find(struct inbox *inbox, uint64_t number)
{
	struct question **at;

	if (inbox->buckets == NULL)
		return NULL;
	at = &inbox->buckets[number & inbox->mask];
	while (*at != NULL && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

/* Keeps buckets short, if there is memory for more of them. */
static int
make_room(struct inbox *inbox)
{
	size_t had = inbox->buckets != NULL ? inbox->mask + 1 : 0;
	size_t want = had != 0 ? 2 * had : FIRST_BUCKETS;
	struct question **buckets;

	if (inbox->count < had)
		return 0;
	buckets = bus__calloc(want, sizeof *buckets);
	if (buckets == NULL)
		return had != 0 ? 0 : BUS_E_NOMEM;
	for (size_t i = 0; i < had; i++)
		for (struct question *q = inbox->buckets[i], *next; q != NULL; q = next) {
			next = q->next;
			q->next = buckets[q->number & (want - 1)];
			buckets[q->number & (want - 1)] = q;
		}
	bus__free(inbox->buckets);
	inbox->buckets = buckets;
	inbox->mask = want - 1;
	return 0;
}

int
bus__question_enter(struct bus *bus, struct question *q)
{
	struct inbox *inbox = &bus->inbox;
	struct question **at;
	int err = inbox->closed ? BUS_E_CLOSED : make_room(inbox);

	if (err < 0)
		return err;
	/* A peer that guessed a number could answer other peers' questions. */
	do {
		inbox->last++;
		q->number = bus->kind->number(
		    bus, bus__siphash(bus->key, &inbox->last, sizeof inbox->last));
		at = bus__question_find(inbox, q->number);
	} while (q->number == 0 || *at != NULL);
	*at = q;
	q->next = NULL;
	inbox->count++;
	return 0;
}

void
bus__question_leave(struct inbox *inbox, struct question *q)
{
	struct question **at;

	if (q->number == 0)
		return;
	at = bus__question_find(inbox, q->number);
	*at = q->next;
	q->number = 0;
	inbox->count--;
}

int
bus__question_enter_locked(struct bus *bus, struct question *q)
{
	int err;

	pthread_mutex_lock(&bus->inbox.lock);
	err = bus__question_enter(bus, q);
	pthread_mutex_unlock(&bus->inbox.lock);
	return err;
}

void
bus__question_leave_locked(struct bus *bus, struct question *q)
{
	pthread_mutex_lock(&bus->inbox.lock);
	bus__question_leave(&bus->inbox, q);
	pthread_mutex_unlock(&bus->inbox.lock);
}

int
bus__way_init(struct way *way, struct bus_mailbox *m, struct topic *topic, bus_msg_fn fn, void *arg)
{
	struct slots *slots = bus__calloc(1, sizeof *slots + sizeof slots->at[0]);

	if (slots == NULL)
		return BUS_E_NOMEM;
	slots->cap = 1;
	atomic_init(&slots->count, 1);
	atomic_init(&slots->at[0].sub, &way->sub);
	atomic_init(&way->route.slots, slots);
	way->route.topic = topic;
	way->route.mbox = m;
	way->sub.fn = fn;
	way->sub.arg = arg;
	return 0;
}

void
bus__way_fini(struct way *way)
{
	bus__free(atomic_load_explicit(&way->route.slots, memory_order_relaxed));
	bus__topic_unref(way->route.topic);
}

/* Puts an item into a mailbox that may lose nothing. */
static int
put_or_refuse(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	enum ring_answer answer;

	if (item->block != NULL)
		bus__block_ref(item->block);
	answer = bus__ring_put(&m->ring, item);
	if (answer == RING_FULL && bus__ring_reclaim(&m->ring))
		answer = bus__ring_put(&m->ring, item);
	if (answer == RING_WAKE)
		m->wake(m, owed);
	if (answer == RING_OK || answer == RING_WAKE)
		return 0;
	bus__block_unref(item->block);
	if (answer == RING_SHUT)
		atomic_fetch_add_explicit(&m->lost_shut, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&m->refused, 1, memory_order_relaxed);
	return answer == RING_SHUT ? 0 : BUS_E_FULL;
}

int
bus__way_put(struct way *way, struct ring_item *item)
{
	struct bus_mailbox *m = way->route.mbox, *owed = NULL;

	item->route = &way->route;
	/* No drain is owed: publishers drain neither peers nor askers. */
	if (m->full == BUS_FULL_REFUSE)
		return put_or_refuse(m, item, &owed);
	bus__mailbox_put(m, item, &owed);
	return 0;
}
