#include "bus/walk.h"

#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"

/* Topics per call: about a tenth of a millisecond. */
enum { LOOKS = 1024 };

/* --- sent versions ------------------------------------------------------------------------------------------ */

/* A route's 64-bit note of a version: two versions share one with a chance of 2^-64. */
static uint64_t
note_of(const struct bus__walk *walk, const struct bus__version *version)
{
	uint64_t id[2];

	memcpy(id, version->bus, sizeof id);
	return (version->changes * UINT64_C(0x9E3779B97F4A7C15)) ^ id[0] ^ (id[1] << 1) ^ walk->key;
}

void
bus__walk_note(
    const struct bus__walk *walk, struct route *route, const struct bus__version *version)
{
	route->told = note_of(walk, version);
	route->owed = false;
}

bool
bus__walk_has_told(
    const struct bus__walk *walk, const struct route *route, const struct bus__version *version)
{
	return route->told == note_of(walk, version);
}

/* --- begin and end -------------------------------------------------------------------------------------------- */

static void
rewind_to_first(struct bus__walk *w)
{
	w->place = (struct topic_place){.at = 0};
	w->values = (struct log_walk){.at = 0};
	memset(&w->after, 0, sizeof w->after);
}

static void
begin(struct bus_mailbox *m)
{
	struct bus__walk *w = m->walk;

	w->initial = !w->begun;
	w->on = w->begun = true;
	w->again = w->marks = w->skipped = false;
	w->lost = bus__peer_lost(m);
	/* Read the changes first: the message of a counted change is then in the mailbox before `behind`, or will be put in
	 * behind it. */
	w->before = atomic_load_explicit(&m->bus->marks.changes, memory_order_relaxed);
	w->behind = m->bus->kind->walker->end(m);
	rewind_to_first(w);
}

void
bus__peer_tell_values(struct bus_mailbox *m)
{
	if (m->walk->on)
		m->walk->again = true;
	else
		begin(m);
}

bool
bus__walk_is_before(const struct bus__walk *walk, uint64_t sequence)
{
	return sequence < walk->since_sequence;
}

void
bus__peer_renew_values(struct bus_mailbox *m)
{
	m->walk->on = m->walk->begun = false;
	m->bus->kind->walker->begin(m);
	if (bus__random(&m->walk->key, sizeof m->walk->key) < 0)
		m->walk->key = (uint64_t)bus__now_ns();
}

bool
bus__peer_tells_values(const struct bus_mailbox *m)
{
	return m->walk->on;
}

bool
bus__peer_owes_values(const struct bus_mailbox *m)
{
	return !m->walk->on && (m->walk->skipped || m->walk->lost != bus__peer_lost(m));
}

void
bus__peer_release_value(struct bus_mailbox *m)
{
	bus__block_unref(m->walk->block);
	m->walk->block = NULL;
}

/* --- continuing ------------------------------------------------------------------------------------------------- */

enum bus__values
bus__peer_take_value(struct bus_mailbox *m, struct bus__out *ret_out)
{
	struct bus__walk *w = m->walk;
	const struct walker *walker = m->bus->kind->walker;
	unsigned left = walker->looks;
	bool found;

	bus__peer_release_value(m);
	/* Messages that wait in the mailbox precede the values; their drainer calls again. */
	if (!w->on || !walker->is_reached(m))
		return BUS__VALUES_NONE;
	bus__lock(m->bus);
	found = walker->look(m, &left, ret_out);
	bus__unlock(m->bus);
	if (found)
		return BUS__VALUES_ONE;
	if (!w->on)
		return BUS__VALUES_NONE;
	if (left == 0)
		return BUS__VALUES_LATER;
	if (!w->marks) {
		w->marks = true;
		rewind_to_first(w);
		return BUS__VALUES_LATER;
	}
	w->on = false;
	if (w->again)
		begin(m);
	return w->on ? BUS__VALUES_LATER : BUS__VALUES_NONE;
}

/* --- the values that topics keep --------------------------------------------------------------------------------------------------- */

/* Makes a message of a value. false: it has expired. */
bool
bus__walk_give(struct bus_mailbox *m, const struct topic *topic, const struct bus__value *value,
    struct bus__out *ret_out)
{
	struct bus__walk *w = m->walk;
	int64_t now = value->expires_ns != 0 ? bus__now_ns() : 0;

	w->block = value->block;
	w->msg = (struct bus_msg){
	    .size = sizeof w->msg,
	    .topic = topic->name,
	    .type = value->type,
	    .flags = BUS_MSG_KEPT,
	    .time_ns = value->time_ns,
	    .headers_len = value->headers_len,
	};
	if (value->block != NULL) {
		w->msg.data = value->block->data;
		w->msg.len = value->block->len - value->headers_len;
	}
	if (value->headers_len > 0)
		w->msg.headers = value->block->data + w->msg.len;
	if (value->expires_ns != 0 && value->expires_ns <= now) {
		bus__peer_release_value(m);
		return false;
	}
	if (value->expires_ns != 0)
		w->msg.ttl_ms = (uint32_t)((value->expires_ns - now + NS_PER_MS - 1) / NS_PER_MS);
	*ret_out = (struct bus__out){.msg = &w->msg,
	    .topic_serial = topic->serial,
	    .version = value->version,
	    .is_before = value->is_before};
	return true;
}

/* The peer gets changes made here through its mailbox. */
bool
bus__walk_is_own(const struct bus *bus, const struct bus__version *version)
{
	return memcmp(version->bus, bus->id, sizeof bus->id) == 0;
}

/* Whether a value of the topic must be sent. Bus lock. */
static bool
look_at(struct bus_mailbox *m, struct topic *topic, struct bus__value *ret_value)
{
	struct bus__walk *w = m->walk;
	struct route *route = bus__topic_route(topic, m);
	struct history *h;
	bool found = false;

	if (route == NULL || route->live == 0)
		return false;
	pthread_mutex_lock(bus__keep_lock(m->bus, topic));
	h = topic->history;
	if (h != NULL && h->deleted == w->marks && !bus__walk_has_told(w, route, &h->version)) {
		if (h->change <= w->before) /* a newer change is left to the mailbox */
			found = bus__history_next(
			    m->bus, topic, &w->after, !w->initial && route->told != 0, ret_value);
		else
			w->skipped |= !bus__walk_is_own(m->bus, &h->version);
	}
	if (found)
		ret_value->is_before = h->change <= w->since;
	if (found && ret_value->newest)
		bus__walk_note(w, route, &ret_value->version);
	else if (h == NULL || (h->value == NULL && w->marks))
		route->owed = false; /* it is gone */
	pthread_mutex_unlock(bus__keep_lock(m->bus, topic));
	return found;
}

/* The next value, of up to *left topics. false: there are no more topics, or *left is 0. Bus lock. */
static bool
look(struct bus_mailbox *m, unsigned *left, struct bus__out *ret_out)
{
	struct bus__walk *w = m->walk;
	struct topic *topic;
	struct bus__value value;

	while (*left > 0) {
		struct topic_place here = w->place;

		topic = bus__topic_next(m->bus, &w->place, left);
		if (topic == NULL)
			return false;
		if (look_at(m, topic, &value)) {
			/* If the topic keeps several, its next ones follow. */
			if (value.newest)
				memset(&w->after, 0, sizeof w->after);
			else
				w->after = value.version;
			if (!value.newest)
				w->place = here;
			if (bus__walk_give(m, topic, &value, ret_out))
				return true;
		} else {
			memset(&w->after, 0, sizeof w->after);
		}
	}
	return false;
}

static uint64_t
end(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->ring.tail, memory_order_acquire) & ~RING_FLAG_BITS;
}

static void
begin_connection(struct bus_mailbox *m)
{
	m->walk->since = atomic_load_explicit(&m->bus->marks.changes, memory_order_relaxed);
}

static bool
is_reached(struct bus_mailbox *m)
{
	return bus__ring_out(&m->ring) >= m->walk->behind;
}

static bool
owes(const struct bus_mailbox *m, const struct route *route, const struct bus__version *version)
{
	(void)m;
	(void)version;
	return route->owed;
}

const struct walker bus__walk_topics = {
    .looks = LOOKS,
    .begin = begin_connection,
    .end = end,
    .is_reached = is_reached,
    .look = look,
    .owes = owes,
};
