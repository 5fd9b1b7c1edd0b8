/* named/begin.c: a subscription begins on a mailbox of a named bus. Between begin() and joined() the reader lock is held, so the
 * drainer chooses no record: the subscription gets each kept value once, and each message after it. */
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "bus/bus_internal.h"
#include "bus/topic.h"
#include "named/reader.h"
#include "named/reader_parts.h"
#include "named/state.h"
#include "topic/name.h"

struct making {
	struct bus *bus;
	const char *filter;
	size_t count;
};

/* Makes the topic of a kept value, if the filter matches it. */
static int
make_topic(struct making *making, const struct log_topic *kept)
{
	struct heard_name copied;
	struct topic *topic;

	heard_copy_name(&copied, kept->name, kept->len);
	if (!bus__reader_is_name(copied.name, copied.len) ||
	    !bus__filter_covers(making->filter, copied.name))
		return 0;
	/* Nothing keeps these topics until the subscription joins them: beyond the limit, new ones would evict the first. */
	return ++making->count > making->bus->max_topics
		   ? BUS_E_LIMIT
		   : bus__topic_make(making->bus, copied.name, copied.len, &topic);
}

static int
make_topics_kept(struct bus *bus, const char *filter)
{
	struct making making = {.bus = bus, .filter = filter};
	struct log_walk walk = {.waits = true};
	struct log_topic kept;
	unsigned left = UINT_MAX;
	int err = 0;

	if (strpbrk(filter, "+#") != NULL) {
		while (
		    err == 0 && bus__log_kept_next(&bus->named->now, &walk, &left, &kept) != NULL)
			err = make_topic(&making, &kept);
	} else if (bus__is_logged(filter)) {
		bus__log_topic(bus->log, filter, strlen(filter), &kept);
		if (bus__log_kept_now(&bus->named->now, &kept) != NULL)
			err = make_topic(&making, &kept);
	}
	return err;
}

/* The first subscription opens the mailbox's cursor. Each one opens `now` until it has joined: that fixes where the subscription
 * begins, and reads the kept values. */
static int
begin(struct bus_mailbox *m, struct bus_sub *sub, const char *filter)
{
	struct reader *r = m->reader;
	struct log_cursor *now = &m->bus->named->now;
	int err = bus__reader_open(m);

	if (err < 0 || r->from != BUS_FROM_NOW)
		return err;
	err = bus__log_cursor_open(r->log, LOG_FROM_NOW, 0, now);
	if (err < 0)
		return err;
	sub->begin = now->sequence;
	m->bus->named->now_tail = bus__log_position(now);
	if (!m->is_peer) /* a peer's walk makes them */
		err = make_topics_kept(m->bus, filter);
	if (err < 0)
		bus__log_cursor_close(now);
	return err;
}

int
bus__reader_begin(struct bus_mailbox *m, struct bus_sub *sub, const char *filter)
{
	int err;

	pthread_mutex_lock(&m->reader->lock);
	bus__watch_note(m);
	err = begin(m, sub, filter);
	if (err < 0)
		pthread_mutex_unlock(&m->reader->lock);
	return err;
}

/* While other processes publish, both noted values may lie beyond the tail of the first look, or be moving. A later look finds one. */
uint64_t
bus__reader_find_kept(struct topic *topic, struct bus_sub *sub)
{
	struct bus_mailbox *m = sub->mbox;
	struct bus *bus = m->bus;
	struct log *log = m->reader->log;
	uint64_t from = sub->begin, tail = bus->named->now_tail;
	struct log_topic kept;

	bus->named->now_kept = NULL;
	if (m->reader->from != BUS_FROM_NOW || m->is_peer || !bus__is_logged(topic->name))
		return from;
	bus__log_topic(log, topic->name, topic->len, &kept);
	for (struct log_looks looks = {0};;) {
		bus->named->now_kept = bus__log_kept(&bus->named->now, &kept, tail);
		if (bus->named->now_kept != NULL ||
		    !bus__log_may_look_again(&looks, &bus->named->now, &kept, tail) ||
		    bus__log_seek(&bus->named->now, LOG_FROM_NOW, 0) < 0)
			return from;
		from = bus->named->now.sequence;
		tail = bus__log_position(&bus->named->now);
	}
}

void
bus__reader_put_kept(struct bus_mailbox *m, struct route *route, struct bus_sub *sub)
{
	struct bus *bus = m->bus;
	struct ring_view v;

	if (bus->named->now_kept != NULL &&
	    bus__reader_view(
		&(struct taken){.record = bus->named->now_kept, .word = bus->named->now.word},
		&v) &&
	    v.len > 0 && !(v.flags & RING_TTL && v.expires_ns <= bus__now_ns()))
		bus__reader_put(m, &v, route, sub, RING_KEPT | RING_TARGET, &bus->owed);
}

void
bus__reader_joined(struct bus_mailbox *m)
{
	bus__reader_changed(m->reader);
	bus__watch_joined(m);
	pthread_mutex_unlock(&m->reader->lock);
	if (m->reader->from == BUS_FROM_NOW)
		bus__log_cursor_close(&m->bus->named->now);
}
