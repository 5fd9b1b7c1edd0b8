#include "named/listens.h"

#include "base/clock.h"
#include "bus/bus_internal.h"
#include "named/reader.h"
#include "log/log.h"

static struct log_listener
listener_of(struct bus_mailbox *m)
{
	struct bus_stats stats = {.size = sizeof stats};
	struct log_listener l = {
	    .mailbox = m->number,
	    .bus = (uint8_t)m->bus->inbox.tag,
	    .full = (uint8_t)m->full,
	    .drain = (uint8_t)m->drain,
	    .is_peer = m->is_peer,
	    .noted_ns = bus__now_ns(),
	};

	bus__mailbox_add_stats(m, 0, &stats);
	l.delivered = stats.delivered;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		l.lost += stats.lost[i];
	/* Before it has begun everything is still to come. */
	l.reached = atomic_load_explicit(&m->reader->begun, memory_order_acquire)
			? bus__reader_reached(m)
			: bus__log_tail(m->reader->log);
	return l;
}

/* Between begin and end. The filter is counted, or listed with its mailbox. */
static void
list(struct bus *bus, struct bus_sub *sub, const char *filter)
{
	struct bus_mailbox *m = sub->mbox;
	struct log_listener l = {.mailbox = m->number, .bus = (uint8_t)bus->inbox.tag};

	if (m->listed_at == 0) {
		l = listener_of(m);
		m->listed_at = bus__log_listens_mailbox(bus->log, &l);
	}
	sub->told = true;
	if (m->listed_at == 0) {
		bus__log_listens_count(bus->log);
		return;
	}
	sub->listed_at = (uint16_t)bus__log_listens_filter(bus->log, &l, filter);
	m->listed_subs += sub->listed_at != 0;
	if (m->listed_subs == 0) {
		bus__log_listens_drop(bus->log, m->listed_at);
		m->listed_at = 0;
	}
}

void
bus__listens_add(struct bus *bus, struct bus_sub *sub, const char *filter)
{
	bus__log_listens_begin(bus->log);
	list(bus, sub, filter);
	bus__log_listens_end(bus->log);
}

void
bus__listens_remove(struct bus *bus, struct bus_sub *sub)
{
	struct bus_mailbox *m = sub->mbox;

	if (!sub->told)
		return;
	bus__log_listens_begin(bus->log);
	if (sub->listed_at == 0) {
		bus__log_listens_uncount(bus->log);
	} else {
		bus__log_listens_drop(bus->log, sub->listed_at);
		if (--m->listed_subs == 0) {
			bus__log_listens_drop(bus->log, m->listed_at);
			m->listed_at = 0;
		}
	}
	sub->listed_at = 0;
	sub->told = false;
	bus__log_listens_end(bus->log);
}

/* Room has come: for one that is only counted. */
static void
list_counted(struct bus *bus, struct bus_sub *sub)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];

	bus__trie_name(sub->node, filter);
	bus__log_listens_uncount(bus->log);
	list(bus, sub, filter);
}

void
bus__listens_note(struct bus *bus)
{
	struct log_listens *listens = &bus->log->listens;

	pthread_mutex_lock(&bus->lock); /* makes no garbage, so it has none to wait for */
	bus__log_listens_begin(bus->log);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next) {
		struct bus_sub *sub = m->subs;

		if (m->listed_at != 0) {
			const struct log_listener l = listener_of(m);

			bus__log_listens_note(bus->log, m->listed_at, &l);
		}
		for (; sub != NULL && listens->beyond > 0 && listens->filters < LISTENS_FILTERS;
		     sub = sub->next_in_mbox)
			if (sub->told && sub->listed_at == 0)
				list_counted(bus, sub);
	}
	bus__log_listens_end(bus->log);
	pthread_mutex_unlock(&bus->lock);
}
