#define _POSIX_C_SOURCE 200809L
#include "named/named.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "named/state.h"
#include "bus/fail.h"
#include "named/fail.h"
#include "named/members.h"
#include "topic/name.h"
#include "bus/publish.h"
#include "log/log.h"
#include "log/summary.h"

#define LEAVE_NS INT64_C(100000000)
#define PAGE     4096
#define MANY     32      /* payloads that one append takes */
#define NAP_NS   1000000 /* before it looks again into a log that is damaged where it is */

static int
begin(struct bus *bus)
{
	int err;

	bus->named = bus__calloc(1, sizeof *bus->named);
	if (bus->named == NULL)
		return BUS_E_NOMEM;
	err = bus__watch_init(&bus->named->watch);
	if (err < 0) {
		bus__free(bus->named);
		bus->named = NULL;
	}
	return err;
}

static void
end(struct bus *bus)
{
	bus__watch_fini(&bus->named->watch);
	bus__free(bus->named);
	bus->named = NULL;
}

static int
join(struct bus *bus, const char *name, const struct bus_config *cfg)
{
	int err = bus__log_open(
	    cfg != NULL ? cfg->dir : NULL, name, cfg != NULL ? cfg->log_bytes : 0, &bus->log);

	if (err == 0 && bus__log_is_damaged(bus->log)) {
		bus__log_close(bus->log);
		err = BUS_E_DAMAGED;
	}
	if (err < 0)
		return bus__fail_join(NULL, err, name);
	bus->epoch = bus->log->epoch;
	bus->inbox.tag = atomic_fetch_add_explicit(&bus->log->openings, 1, memory_order_relaxed) &
			 NAMED_BUS_MASK;
	/* Of all its processes, by which a peer knows that it has one connection already. */
	bus__log_id(bus->log, bus->id);
	if (bus->max_payload > bus__log_most(bus->log))
		bus->max_payload = bus__log_most(bus->log);
	err = bus__members_join(bus, cfg != NULL ? cfg->will : NULL);
	if (err < 0) {
		err = bus__fail_join(bus->log, err, name);
		bus__members_leave(bus, bus__now_ns() + LEAVE_NS);
		bus__log_close(bus->log);
	}
	return err;
}

int
bus__named_open(struct bus *bus, const char *name, const struct bus_config *cfg)
{
	int err = begin(bus);

	if (err < 0)
		return err;
	err = join(bus, name, cfg);
	if (err < 0)
		end(bus);
	return err;
}

void
bus__named_close(struct bus *bus)
{
	bus__log_close(bus->log);
	end(bus);
}

uint64_t
bus_epoch(struct bus *bus)
{
	return bus != NULL ? bus->epoch : 0;
}

uint64_t
bus_position(struct bus *bus)
{
	uint64_t next;

	if (bus__enter(bus) < 0 || !bus->kind->has_members ||
	    bus__log_next_sequence(bus->log, &next) < 0)
		return 0;
	return next - 1;
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

static const struct {
	uint16_t in_ring, in_log;
} same_flags[] = {
    {RING_RETAIN, LOG_RETAIN},
    {RING_TTL, LOG_EXPIRES},
    {RING_HEADERS, LOG_HEADERS},
    {RING_REPLY, LOG_REPLY},
    {RING_ANSWER, LOG_ANSWER},
    {RING_KEPT, LOG_KEPT},
};

static struct log_item
entry_of(struct log_topic *topic, uint32_t origin, unsigned flags, const struct ring_item *item)
{
	struct log_item entry = {
	    .topic = topic,
	    .headers = item->headers,
	    .headers_len = item->headers_len,
	    .flags = (uint16_t)flags,
	    .type = item->type,
	    .origin = origin,
	    .time_ns = item->time_ns,
	    .expires_ns = item->expires_ns,
	    .reply = item->reply,
	};

	for (size_t i = 0; item->flags != 0 && i < sizeof same_flags / sizeof same_flags[0]; i++)
		if (item->flags & same_flags[i].in_ring)
			entry.flags |= same_flags[i].in_log;
	return entry;
}

static struct bus_slice
payload_of(const struct ring_item *item)
{
	return (struct bus_slice){
	    .data = item->block != NULL ? item->block->data : item->data,
	    .len = item->len - item->headers_len,
	};
}

static int
append_until(struct bus *bus, struct log_topic *topic, uint32_t origin, unsigned flags,
    const struct ring_item *item, int64_t until_ns)
{
	struct log_item entry = entry_of(topic, origin, flags, item);
	const struct bus_slice payload = payload_of(item);
	uint64_t sequence;
	int err;

	entry.until_ns = until_ns;
	if (entry.flags == 0 && entry.time_ns == 0)
		err = bus__log_append_one(bus->log, &entry, payload.data, payload.len);
	else if (item->flags & RING_RETAIN)
		err = bus__log_append_value(bus->log, &entry, NULL, &payload, &sequence, NULL);
	else
		err = bus__log_append(bus->log, &entry, &payload, 1, &sequence);
	return err < 0 ? err : 0;
}

int
bus__named_append(struct bus *bus, const char *name, const struct ring_item *item, int64_t until_ns)
{
	struct log_topic topic;

	bus__log_topic(bus->log, name, strlen(name), &topic);
	return append_until(bus, &topic, bus->log->member, 0, item, until_ns);
}

static inline int
append(struct bus *bus, struct log_topic *topic, uint32_t origin, unsigned flags,
    const struct ring_item *item)
{
	return append_until(bus, topic, origin, flags, item, 0);
}

/* Apart, so that a publish that finds its topic saves no register for it. */
static __attribute__((noinline)) int
check_name(const char *name)
{
	size_t len;
	int err = bus__topic_check(name, &len);

	return err < 0 ? bus__fail_name(err, name) : 0;
}

int
bus__named_send(struct bus *bus, struct log_topic *topic, const struct ring_item *item)
{
	int err = append(bus, topic, bus->log->member, 0, item);

	return err < 0 ? bus__fail_publish(bus, err, topic->name, 0) : 0;
}

int
bus__named_publish(struct bus *bus, const char *name, const struct ring_item *item)
{
	size_t len = name != NULL ? strnlen(name, BUS_LIMIT_TOPIC_BYTES + 1) : 0;
	struct log_topic topic;
	int err;

	if (len == 0 || len > BUS_LIMIT_TOPIC_BYTES)
		return check_name(name);
	bus__log_topic(bus->log, name, len, &topic);
	/* One that this process has published on was checked then; $... is the bus's own. */
	if (name[0] == '$' || atomic_load_explicit(&topic.named_at, memory_order_relaxed) == 0) {
		err = check_name(name);
		if (err < 0)
			return err;
	}
	return bus__named_send(bus, &topic, item);
}

/* Gives the topic's value, which was made here, the number of `version`, unless it has been changed meanwhile. What is read
 * stays while it is appended again: by a cursor, as a carried value does. */
static int
renumber(struct bus *bus, struct log_topic *topic, const struct bus__version *version,
    struct bus__offer *offer)
{
	struct bus__offer raise = {.version = *version, .is_kept = true, .is_raise = true};
	const struct log_record *record;
	struct bus_slice payload;
	struct bus__version ours;
	struct log_item entry;
	struct log_cursor c;
	struct log_view v;
	uint64_t sequence;
	void *copy = NULL;
	int err = bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c);

	if (err < 0)
		return err;
	record = bus__log_kept_now(&c, topic);
	if (record != NULL && bus__log_read(c.word, record, &v))
		copy = bus__malloc((size_t)v.len + v.headers_len + 1);
	if (copy != NULL) {
		memcpy(copy, v.data, v.len);
		if (v.headers_len > 0)
			memcpy((uint8_t *)copy + v.len, v.headers, v.headers_len);
		entry = (struct log_item){
		    .topic = topic,
		    .headers = (uint8_t *)copy + v.len,
		    .headers_len = v.headers_len,
		    .flags = LOG_RETAIN | LOG_KEPT | (v.flags & (LOG_EXPIRES | LOG_HEADERS)),
		    .type = v.type,
		    .origin = v.origin,
		    .time_ns = v.time_ns,
		    .expires_ns = v.expires_ns,
		};
		payload = (struct bus_slice){copy, v.len};
	}
	bus__log_cursor_close(&c);
	if (copy == NULL)
		return 0;
	err = bus__log_append_value(bus->log, &entry, &raise, &payload, &sequence, &ours);
	offer->tell_all |= raise.tell_all;
	bus__free(copy);
	return err < 0 ? err : 0;
}

int
bus__named_relay(struct bus *bus, struct log_topic *topic, struct ring_item *item,
    struct bus__offer *offer, const struct bus__passed *passed)
{
	struct bus_slice payload = payload_of(item);
	struct bus__version ours;
	struct log_item entry;
	uint64_t sequence;
	int64_t now;
	int err;

	/* A peer's clock may be wrong, but its message is not from the future. */
	if (item->time_ns != 0) {
		now = bus__wall_ns();
		item->time_ns = item->time_ns < now ? item->time_ns : now;
	}
	entry = entry_of(
	    topic, bus->log->member, passed != NULL ? LOG_RELAYED | LOG_PASSED : LOG_RELAYED, item);
	entry.passed = passed;
	if (!(item->flags & RING_RETAIN)) {
		err = bus__log_append(bus->log, &entry, &payload, 1, &sequence);
		return err < 0 ? err : 0;
	}
	err = bus__log_append_value(bus->log, &entry, offer, &payload, &sequence, &ours);
	if (err == LOG_OURS) {
		err = renumber(bus, topic, &ours, offer);
		entry.flags &= (uint16_t)~LOG_RETAIN;
		if (err == 0 && !offer->is_kept) /* it is news all the same */
			err = bus__log_append(bus->log, &entry, &payload, 1, &sequence);
	}
	return err < 0 ? err : 0;
}

int
bus__named_relay_run(struct bus *bus, struct log_topic *topic, uint8_t type,
    const struct bus_slice *items, size_t count)
{
	const struct log_item entry =
	    entry_of(topic, bus->log->member, LOG_RELAYED, &(struct ring_item){.type = type});
	uint64_t sequence;

	return bus__log_append(bus->log, &entry, items, count, &sequence);
}

static __attribute__((cold, noinline)) int
fail_send(struct bus *bus, int err, const struct log_item *record, size_t len)
{
	return bus__fail_publish(bus, err, record->topic->name, len);
}

/* Has the payload there before others of this process wait for this thread: a page of it may come late, or end the program.
 * Only where a handle keeps the bus, which another thread may close. A batch would pay too much for it. */
static inline void
touch(const volatile uint8_t *bytes, size_t len)
{
	(void)bytes[0];
	(void)bytes[len - 1];
}

static void
touch_pages(const uint8_t *data, size_t len)
{
	for (size_t at = 0; at < len; at += PAGE)
		touch(data + at, len - at);
}

/* Apart, so that a small one saves no register for it. */
static __attribute__((noinline)) int
send_large(struct bus *bus, const struct log_item *record, const void *data, size_t len)
{
	int err;

	if (len > bus->max_payload)
		return fail_send(bus, BUS_E_TOO_BIG, record, len);
	if (data == NULL)
		return fail_send(bus, BUS_E_INVAL, record, len);
	touch_pages(data, len);
	err = bus__log_append_one(bus->log, record, data, len);
	return err < 0 ? bus__fail_append(bus, err) : 0;
}

int
bus__named_send_one(struct bus *bus, const struct log_item *record, const void *data, size_t len)
{
	struct bus *volatile on =
	    bus; /* in memory, so that a send that succeeds saves no register */
	int err;

	if (len > PAGE || len > bus->max_payload || data == NULL) {
		if (len > 0)
			return send_large(bus, record, data, len);
	} else if (__builtin_expect(len > 0, 1)) {
		touch(data, len);
	}
	err = bus__log_append_one(bus->log, record, data, len);
	return err < 0 ? bus__fail_append(on, err) : 0;
}

int
bus__named_send_parts(struct bus *bus, const struct log_item *record, size_t len)
{
	int err;

	for (size_t i = 0; i < record->part_count; i++)
		touch_pages(record->parts[i].data, record->parts[i].len);
	err = bus__log_append_parts(bus->log, record, len);
	return err < 0 ? bus__fail_append(bus, err) : 0;
}

int
bus__named_send_many(
    struct bus *bus, const struct log_item *record, const struct bus_slice *items, size_t count)
{
	const struct bus_slice *item = items, *end = items + (count < MANY ? count : MANY);
	uint64_t sequence;

	while (
	    item < end && item->len <= bus->max_payload && (item->data != NULL || item->len == 0))
		item++;
	if (item == items)
		return items->len > bus->max_payload ? BUS_E_TOO_BIG : BUS_E_INVAL;
	return bus__log_append(bus->log, record, items, (size_t)(item - items), &sequence);
}

/* --- questions ------------------------------------------------------------------------------------------------------ */

int
bus__named_reply(struct bus *bus, uint64_t number, const struct ring_item *item)
{
	struct ring_item reply = *item;

	reply.flags |= RING_REPLY | RING_ANSWER;
	reply.reply = number;
	return append(bus, NULL, (uint32_t)(number >> NAMED_ASKER_SHIFT), 0, &reply);
}

/* Makes a message to keep of a reply. */
static int
keep_reply(const struct log_view *v, const char *topic, uint64_t sequence,
    const struct bus_msg **ret_reply)
{
	const struct bus_msg msg = {
	    .size = sizeof msg,
	    .topic = topic,
	    .data = v->data,
	    .len = v->len,
	    .type = v->type,
	    .time_ns = v->time_ns,
	    .headers = v->headers,
	    .headers_len = v->headers_len,
	    .position = sequence,
	};

	return bus_msg_keep(&msg, ret_reply);
}

static int
await_reply(struct log_cursor *c, const char *topic, uint64_t number, int64_t deadline_ns,
    _Atomic uint32_t *done, const struct bus_msg **ret_reply)
{
	uint64_t before = UINT64_MAX;
	bool late = false;

	for (;;) {
		/* Before a look at what it may tell of. */
		uint32_t seen = bus__log_news(c->log);
		const struct log_record *record;
		struct log_view v;

		while ((record = bus__log_next(c)) != NULL)
			if ((c->word >> 32 & LOG_ANSWER) && record->origin == c->log->member &&
			    bus__log_read(c->word, record, &v) && v.reply == number)
				return keep_reply(&v, topic, c->sequence - 1, ret_reply);
		if (atomic_load_explicit(done, memory_order_acquire) != 0)
			return 0;
		if (bus__log_is_damaged(c->log))
			return BUS_E_DAMAGED;
		if (late)
			return BUS_E_TIMEDOUT;
		bus__log_let_go(c);
		if (bus__log_ask(c->log, bus__log_position(c))) {
			int woken = bus__log_sleep(c->log, seen, deadline_ns);

			if (woken == BUS_E_TIMEDOUT)
				return woken;
			if (woken == BUS__INTERRUPTED && deadline_ns == INT64_MAX)
				return BUS__E_HANDLER;
			continue;
		}
		/* Something has come. If that is found here twice it cannot be read, since the log is damaged. */
		late = bus__now_ns() >= deadline_ns;
		if (!late && before == bus__log_position(c))
			bus__log_sleep(c->log, seen, bus__now_ns() + NAP_NS);
		before = bus__log_position(c);
	}
}

int
bus__named_ask(struct bus *bus, const struct bus_msg *question, uint64_t number,
    int64_t deadline_ns, _Atomic uint32_t *done, const struct bus_msg **ret_reply)
{
	struct log_cursor c;
	uint32_t takers;
	int err = bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c);

	if (err < 0)
		return bus__fail_about(err, question->topic);
	err = bus__publish_question(bus, question, number, deadline_ns, &takers);
	if (err == 0)
		err = await_reply(&c, question->topic, number, deadline_ns, done, ret_reply);
	bus__log_cursor_close(&c);
	return err;
}
