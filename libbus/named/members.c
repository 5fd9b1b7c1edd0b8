#define _GNU_SOURCE
#include "named/warn.h"
#include "named/members.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libbus/pack.h>

#include "base/clock.h"
#include "base/mem.h"
#include "named/state.h"
#include "bus/fail.h"
#include "named/listens.h"
#include "topic/name.h"
#include "named/named.h"
#include "named/peers.h"
#include "bus/notice.h"
#include "bus/publish.h"
#include "value/value.h"
#include "log/log.h"

#define WILLS_PREFIX "$bus/wills/"
#define APPEND_NS    INT64_C(250000000)
#define NAME_BYTES   32

_Atomic int64_t bus__look_ns = INT64_C(1000000000);

/* A will as it is kept: this, then the topic, the payload and the headers. */
struct will {
	uint32_t flags, topic_len, len, headers_len;
	uint64_t type;
};

/* The deadline of an append that no caller waits for: the next look repeats a failed one. */
static int64_t
soon(void)
{
	return bus__now_ns() + APPEND_NS;
}

/* Publishes a retained message on a topic of the bus's own. until_ns: monotonic; 0: it waits for its turn, as bus_publish() does.
 * BUS__NO_VALUE: the limit that it met. */
static int
keep(struct bus *bus, const char *prefix, uint32_t slot, int type, const void *data, size_t len,
    int64_t until_ns)
{
	const struct ring_item item = {
	    .data = data, .len = (uint32_t)len, .flags = RING_RETAIN, .type = (uint8_t)type};
	char name[NAME_BYTES];
	int err;

	snprintf(name, sizeof name, "%s%u", prefix, slot);
	err = bus__named_append(bus, name, &item, until_ns);
	return err == BUS_E_LIMIT ? BUS__NO_VALUE : err;
}

static int
announce(struct bus *bus)
{
	struct bus_packer *packer = bus__packer_new();
	const void *data;
	size_t len;
	int err;

	if (packer == NULL)
		return BUS_E_NOMEM;
	bus_pack_map(packer, 2);
	bus_pack_text(packer, "pid", 3);
	bus_pack_uint(packer, (uint64_t)getpid());
	bus_pack_text(packer, "program", 7);
	bus_pack_text(packer, program_invocation_short_name, strlen(program_invocation_short_name));
	err = bus__packer_data(packer, &data, &len);
	if (err == 0)
		err = keep(bus, MEMBERS_PREFIX, bus->log->member, BUS_TYPE_MSGPACK, data, len, 0);
	bus_packer_free(packer);
	return err;
}

/* --- wills ----------------------------------------------------------------------------------------------------- */

static int
note_will(struct bus *bus, const struct bus_msg *msg)
{
	struct will will = {.flags = msg->flags, .type = (uint64_t)msg->type};
	struct ring_item item;
	size_t topic_len;
	uint8_t *bytes;
	int err = bus__topic_check(msg->topic, &topic_len);

	if (err == 0)
		err = bus__item_make(bus, msg, &item);
	if (err < 0)
		return err;
	will.topic_len = (uint32_t)topic_len;
	will.len = (uint32_t)msg->len;
	will.headers_len = (uint32_t)msg->headers_len;
	if (sizeof will + topic_len + item.len > bus->max_payload)
		return BUS_E_TOO_BIG;
	bytes = bus__malloc(sizeof will + topic_len + item.len);
	if (bytes == NULL)
		return BUS_E_NOMEM;
	memcpy(bytes, &will, sizeof will);
	memcpy(bytes + sizeof will, msg->topic, topic_len);
	bus__ring_item_copy(bytes + sizeof will + topic_len, &item);
	err = keep(bus, WILLS_PREFIX, bus->log->member, BUS_TYPE_BYTES, bytes,
	    sizeof will + topic_len + item.len, 0);
	bus->log->has_will |= err == 0;
	bus__free(bytes);
	return err;
}

/* Decodes a will. false: invalid bytes, since other processes can write there. */
static bool
read_will(const uint8_t *bytes, size_t len, char topic[BUS_LIMIT_TOPIC_BYTES + 1],
    struct ring_item *ret_item)
{
	struct will will;

	if (len < sizeof will)
		return false;
	memcpy(&will, bytes, sizeof will);
	len -= sizeof will;
	if (will.topic_len > BUS_LIMIT_TOPIC_BYTES || will.topic_len > len ||
	    will.len > len - will.topic_len ||
	    will.headers_len != len - will.topic_len - will.len || will.type > UINT8_MAX)
		return false;
	memcpy(topic, bytes + sizeof will, will.topic_len);
	topic[will.topic_len] = '\0';
	*ret_item = (struct ring_item){
	    .data = bytes + sizeof will + will.topic_len,
	    .len = will.len + will.headers_len,
	    .headers_len = will.headers_len,
	    .type = (uint8_t)will.type,
	};
	if (will.headers_len > 0) {
		ret_item->headers = (const uint8_t *)ret_item->data + will.len;
		ret_item->flags |= RING_HEADERS;
	}
	if (will.flags & BUS_MSG_RETAIN)
		ret_item->flags |= RING_RETAIN;
	return true;
}

/* Publishes a will. What this process may publish, and whether its bus is closing, is of no account; where there is no
 * room for a value more, it is said all the same. */
static int
say_will(struct bus *bus, const uint8_t *bytes, size_t len, int64_t until_ns)
{
	char topic[BUS_LIMIT_TOPIC_BYTES + 1];
	struct ring_item item;
	int err;

	if (!read_will(bytes, len, topic, &item))
		return 0;
	err = bus__topic_check(topic, &len);
	if (err == 0)
		err = bus__named_append(bus, topic, &item, until_ns);
	if (err == BUS_E_LIMIT && item.flags & RING_RETAIN) {
		item.flags &= (uint16_t)~RING_RETAIN;
		err = bus__named_append(bus, topic, &item, until_ns);
	}
	/* One with a topic that is none never will be said. */
	return err == BUS_E_FULL || err == BUS_E_DAMAGED || err == BUS_E_TIMEDOUT ? err : 0;
}

/* The will in that slot, copied; NULL: there is none. 0, or why that is not known. */
static int
find_will(struct bus *bus, uint32_t slot, uint8_t **ret_bytes, size_t *ret_len)
{
	const struct log_record *record;
	char name[NAME_BYTES];
	struct log_cursor c;
	struct log_topic topic;
	struct log_view v;
	int err;

	*ret_bytes = NULL;
	snprintf(name, sizeof name, WILLS_PREFIX "%u", slot);
	bus__log_topic(bus->log, name, strlen(name), &topic);
	err = bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c);
	if (err < 0)
		return err;
	record = bus__log_kept_now(&c, &topic);
	if (record != NULL && bus__log_read(c.word, record, &v) && v.len > 0) {
		*ret_bytes = bus__malloc(v.len);
		*ret_len = v.len;
		if (*ret_bytes != NULL)
			memcpy(*ret_bytes, v.data, v.len);
		else
			err = BUS_E_NOMEM;
	}
	bus__log_cursor_close(&c);
	return err;
}

/* Forgets the will in a slot, and says it before if the slot's member is dead. */
static int
end_will(struct bus *bus, uint32_t slot, bool dead, int64_t until_ns)
{
	uint8_t *will;
	size_t len;
	int err = find_will(bus, slot, &will, &len);

	if (err == 0 && will != NULL && dead)
		err = say_will(bus, will, len, until_ns);
	if (err == 0 && will != NULL)
		err = keep(bus, WILLS_PREFIX, slot, 0, "", 0, until_ns);
	bus__free(will);
	return err;
}

/* --- the dead ---------------------------------------------------------------------------------------------------- */

/* Publishes the will first, then the departure: a process stopped in between causes a second will, never none. A failure
 * leaves both to the next look. */
static int
bury(struct bus *bus, uint32_t slot, int64_t until_ns)
{
	int err = end_will(bus, slot, true, until_ns);

	if (err == 0)
		err = bus__peers_end(bus, slot, until_ns);
	if (err == 0)
		err = keep(bus, MEMBERS_PREFIX, slot, 0, "", 0, until_ns);
	if (err == 0)
		bus__log_forget_pid(bus->log, slot);
	return err;
}

void
bus__members_heed(struct bus *bus)
{
	int64_t now = bus__now_ns();
	int64_t next = atomic_load_explicit(&bus->named->next_look_ns, memory_order_relaxed);
	int64_t pause_ns = atomic_load_explicit(&bus__look_ns, memory_order_relaxed);

	if (now < next || !atomic_compare_exchange_strong_explicit(&bus->named->next_look_ns, &next,
			      now + pause_ns, memory_order_relaxed, memory_order_relaxed))
		return;
	bus__log_mend(bus->log);
	bus__listens_note(bus);
	bus__warn_files(bus, bus__log_trouble(bus->log));
	bus__warn_values(bus);
	if (!bus__log_begin_look(bus->log, pause_ns) ||
	    atomic_exchange_explicit(&bus->log->burying, true, memory_order_acquire))
		return;
	for (uint32_t i = 0; i < LOG_MEMBERS && !bus__log_is_damaged(bus->log); i++) {
		if (bus__log_pid(bus->log, i) == 0 || bus__log_is_alive(bus->log, i) ||
		    !bus__log_hold_slot(bus->log, i))
			continue;
		if (bus__log_pid(bus->log, i) != 0) /* unless another process has buried it */
			bury(bus, i, soon());
		bus__log_let_slot_go(bus->log, i);
	}
	atomic_store_explicit(&bus->log->burying, false, memory_order_release);
}

/* --- coming and going ----------------------------------------------------------------------------------------------- */

/* The first bus of this name in the process. Values of the slot's previous owner are not ours. */
static int
enter(struct bus *bus)
{
	int err = 0;

	if (bus->log->took_over)
		err = bury(bus, bus->log->member, 0);
	if (err < 0)
		return err; /* the next look finds the dead process again */
	if (bus->log->took_over)
		bus__log_note_pid(bus->log);
	bus->log->took_over = false;
	err = end_will(bus, bus->log->member, false, 0);
	return err < 0 ? err : announce(bus);
}

int
bus__members_join(struct bus *bus, const struct bus_msg *will)
{
	int err = 0;

	/* So that of two that come and go at once one says it. */
	pthread_mutex_lock(&bus->log->members_lock);
	if (bus->log->buses++ == 0)
		err = enter(bus);
	if (err == 0 && will != NULL)
		err = note_will(bus, will);
	pthread_mutex_unlock(&bus->log->members_lock);
	return err;
}

void
bus__members_leave(struct bus *bus, int64_t until_ns)
{
	struct log *log = bus->log;
	int err = 0;

	pthread_mutex_lock(&log->members_lock);
	/* Unless it never joined: then the slot's values are another process's. */
	if (--log->buses == 0 && !log->took_over) {
		if (log->has_will)
			err = keep(bus, WILLS_PREFIX, log->member, 0, "", 0, until_ns);
		if (err == 0)
			err = bus__peers_end(bus, log->member, until_ns);
		if (err == 0)
			err = keep(bus, MEMBERS_PREFIX, log->member, 0, "", 0, until_ns);
		/* Another member removes the rest, as it does for a dead process. */
		log->took_over = err == BUS_E_TIMEDOUT;
		log->has_will = false;
	}
	pthread_mutex_unlock(&log->members_lock);
}
