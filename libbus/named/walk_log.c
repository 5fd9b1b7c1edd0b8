/* named/walk_log.c: the values that a peer is sent out of the log of a named bus. */
#include "bus/walk.h"

#include <string.h>

#include "bus/bus_internal.h"
#include "bus/keep.h"
#include "named/reader.h"

enum { LOOKS = 32 }; /* buckets in one go, which have up to sixteen values */

/* Without a cursor, which others use, nothing is known to be older than the connection. */
static void
begin_connection(struct bus_mailbox *m)
{
	struct log_cursor c;

	m->walk->since = bus__log_tail(m->bus->log);
	m->walk->since_sequence = 0;
	if (bus__log_cursor_open(m->bus->log, LOG_FROM_NOW, 0, &c) < 0)
		return;
	m->walk->since = bus__log_position(&c);
	m->walk->since_sequence = c.sequence;
	bus__log_cursor_close(&c);
}

/* A copy of what a record has. false: out of memory. */
static bool
copy_value(const struct log_view *v, const struct bus__version *version, enum log_value kind,
    struct bus__value *ret_value)
{
	*ret_value = (struct bus__value){.time_ns = v->time_ns, .version = *version};
	if (kind == LOG_A_MARK)
		return true;
	ret_value->block = bus__block_new(NULL, v->len + v->headers_len);
	if (ret_value->block == NULL)
		return false;
	memcpy(ret_value->block->data, v->data, v->len);
	if (v->headers_len > 0)
		memcpy(ret_value->block->data + v->len, v->headers, v->headers_len);
	ret_value->headers_len = v->headers_len;
	ret_value->type = v->type;
	ret_value->expires_ns = v->flags & LOG_EXPIRES ? v->expires_ns : 0;
	return true;
}

/* Whether there is something to be told of a topic that has this record. */
static bool
look_at(struct bus_mailbox *m, struct log_cursor *c, const struct log_topic *kept,
    const struct log_record *record, struct topic **ret_topic, struct bus__value *ret_value)
{
	char name[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus__walk *w = m->walk;
	struct bus__version version;
	enum log_value kind;
	struct route *route;
	struct log_view v;

	memcpy(name, kept->name, kept->len); /* from here on other processes cannot change it */
	name[kept->len] = '\0';
	if (bus__reader_route(m, name, kept->len, &route) < 0 || route == NULL)
		return false;
	kind = bus__log_value_of(m->bus->log, c->word, record, &version);
	if (kind == LOG_NO_VALUE)
		route->told += route->told == 0; /* that there is none */
	if (kind == LOG_NO_VALUE || version.changes == 0 || (kind == LOG_A_MARK) != w->marks ||
	    bus__walk_has_told(w, route, &version) || !bus__log_read(c->word, record, &v))
		return false;
	if (c->kept_at >= w->behind && !record_is_carried(c->word)) {
		w->skipped |= !bus__walk_is_own(m->bus, &version);
		return false;
	}
	if (!copy_value(&v, &version, kind, ret_value)) {
		w->skipped = true;
		return false;
	}
	ret_value->is_before = c->kept_at < w->since || record_is_carried(c->word);
	bus__walk_note(w, route, &version);
	*ret_topic = route->topic;
	return true;
}

static bool
look(struct bus_mailbox *m, unsigned *left, struct bus__out *ret_out)
{
	struct log *log = m->bus->log;
	struct bus__value value;
	const struct log_record *record;
	struct log_topic kept;
	struct log_cursor c;
	struct topic *topic;
	bool found = false;

	if (bus__log_cursor_open(log, LOG_FROM_NOW, 0, &c) < 0) {
		/* Another walk goes on with it, later. */
		m->walk->on = false;
		m->walk->skipped = true;
		return false;
	}
	while (!found && (record = bus__log_kept_next(&c, &m->walk->values, left, &kept)) != NULL)
		found = look_at(m, &c, &kept, record, &topic, &value) &&
			bus__walk_give(m, topic, &value, ret_out);
	if (m->walk->values.moving) /* a writer is carrying some */
		m->walk->again = true;
	m->walk->values.moving = false;
	bus__log_cursor_close(&c);
	return found;
}

static bool
is_reached(struct bus_mailbox *m)
{
	const struct bus__walk *w = m->walk;

	if (!atomic_load_explicit(&m->reader->begun, memory_order_acquire)) {
		m->walk->on = false; /* a peer without filters, which has no cursor either */
		return false;
	}
	/* Of a mailbox that rests the cursor stands still, and what comes is looked at elsewhere. */
	return bus__log_position(&m->reader->cursor) >= w->behind ||
	       bus__reader_has_passed(m, w->behind);
}

static uint64_t
end(const struct bus_mailbox *m)
{
	return bus__log_tail(m->bus->log);
}

static bool
owes(const struct bus_mailbox *m, const struct route *route, const struct bus__version *version)
{
	const struct bus__walk *walk = m->walk;
	struct log *log = m->bus->log;
	struct log_topic topic;

	if ((walk->begun && !walk->on) || route->told != 0 || version->changes <= 1)
		return false;
	bus__log_topic(log, route->topic->name, route->topic->len, &topic);
	return bus__log_had_another(log, &topic);
}

const struct walker bus__walk_log = {
    .looks = LOOKS,
    .begin = begin_connection,
    .end = end,
    .is_reached = is_reached,
    .look = look,
    .owes = owes,
};
