/* log/append_value.c: appends retained records. What becomes of one depends on the value that its topic has, and does not change while
 * the tail is ours: the comparison and the append are one step. */
#include "log/append.h"

#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "log/stall.h"
#include "log/tail.h"
#include "log/turn.h"

/* A retained record, as decide() made it. */
struct value {
	struct log_item item;
	struct bus__version version;
	int64_t until_ns; /* with LOG_MARK */
	uint64_t theirs;  /* with LOG_THEIRS */
	bool is_news;     /* it gets a sequence */
};

static uint64_t
value_size(const struct value *value, const struct bus_slice *payload)
{
	return (sizeof(struct log_record) + 8 * (uint64_t)record_words(value->item.flags) +
		   payload->len + value->item.headers_len +
		   (value->item.flags & LOG_NAMED ? value->item.topic->len : 0) + 7) &
	       ~UINT64_C(7);
}

/* Returns its first word. */
static uint64_t
write_value(uint8_t *to, uint32_t topic, const struct value *value, const struct bus_slice *payload,
    uint64_t bytes, int64_t time_ns)
{
	const struct log_item *item = &value->item;
	uint8_t *at = bus__log_write_words(to + sizeof(struct log_record), item);

	if (item->flags & LOG_CHANGES)
		at = bus__log_write_word(at, value->version.changes);
	if (item->flags & LOG_OTHER) {
		memcpy(at, value->version.bus, sizeof value->version.bus);
		at += sizeof value->version.bus;
	}
	if (item->flags & LOG_MARK)
		at = bus__log_write_word(at, (uint64_t)value->until_ns);
	if (item->flags & LOG_THEIRS)
		at = bus__log_write_word(at, value->theirs);
	if (item->flags & LOG_NAMED)
		at = bus__log_write_word(at, item->topic->len);
	return bus__log_write_rest(to, at, topic, item, payload, bytes, time_ns);
}

/* --- the decision -------------------------------------------------------------------------------------------------- */

/* The topic's next version. */
static struct bus__version
next_version(const struct log *log, const struct bus__version *now)
{
	struct bus__version next = {.changes = now->changes};

	if (next.changes == 0)
		next.changes = atomic_load_explicit(&log->shared->floor, memory_order_relaxed);
	next.changes += next.changes < UINT64_MAX;
	bus__log_id(log, next.bus);
	return next;
}

/* Compares the content of the new record with that of the topic's value. */
static int
compare_content(
    const struct log_newest *now, const struct log_item *item, const struct bus_slice *payload)
{
	struct bus__content offered = {.len = 0}, has = {.len = 0};
	struct log_view v;

	if (payload->len > 0)
		offered = (struct bus__content){
		    payload->data, item->headers, payload->len, item->headers_len, item->type};
	if (now->kind == LOG_NO_VALUE)
		return -1;
	if (now->kind == LOG_A_VALUE) {
		if (!bus__log_read(now->word, now->record, &v))
			return -1;
		has = (struct bus__content){v.data, v.headers, v.len, v.headers_len, v.type};
	}
	return bus__content_compare(&offered, &has);
}

enum fate { FATE_IN, FATE_OUT, FATE_OURS };

/* Decides what becomes of a record that another bus made, by the topic's value. */
static enum fate
decide_offer(struct log *log, const struct log_newest *now, struct bus__offer *offer,
    const struct bus_slice *payload, struct value *value)
{
	struct bus__standing standing = {.version = now->version, .theirs = now->theirs};
	enum bus__verdict verdict;
	uint8_t own[BUS__BUS_ID];

	bus__log_id(log, own);
	standing.is_recent = now->position >= offer->since && !record_is_carried(now->word);
	if (bus__offer_asks(offer, &standing, own))
		standing.content = compare_content(now, &value->item, payload);
	verdict = bus__offer_judge(offer, &standing, own);
	value->version = bus__offer_version(verdict, offer, &standing, &value->theirs);
	switch (verdict) {
	case BUS__OFFER_SAME:
		return FATE_OUT;
	case BUS__OFFER_OURS:
		return FATE_OURS;
	case BUS__OFFER_OLDER:
		value->item.flags &= (uint16_t)~LOG_RETAIN;
		return offer->is_kept ? FATE_OUT : FATE_IN;
	case BUS__OFFER_RAISES:
		value->is_news = false;
		return FATE_IN;
	default:
		/* The end of a value that was not there is no news. */
		value->is_news =
		    !offer->is_repeated && (payload->len > 0 || !(value->item.flags & LOG_KEPT) ||
					       now->kind == LOG_A_VALUE);
		return FATE_IN;
	}
}

/* Decides what becomes of a retained record. Owner. */
static enum fate
decide(struct log *log, struct log_cursor *reader, uint64_t tail, const struct log_item *item,
    struct bus__offer *offer, const struct bus_slice *payload, struct value *ret_value)
{
	struct log_newest now;
	uint8_t own[BUS__BUS_ID];
	enum fate fate = FATE_IN;

	*ret_value = (struct value){.item = *item, .is_news = true};
	if (item->topic->name[0] == '$') /* the bus's own topics do not go to peers */
		return FATE_IN;
	bus__log_newest(reader, item->topic, tail, &now);
	if (offer != NULL)
		fate = decide_offer(log, &now, offer, payload, ret_value);
	else
		ret_value->version = next_version(log, &now.version);
	if (fate != FATE_IN || !(ret_value->item.flags & LOG_RETAIN))
		return fate;
	ret_value->item.flags |= LOG_CHANGES;
	bus__log_id(log, own);
	if (memcmp(ret_value->version.bus, own, sizeof own) != 0) {
		ret_value->item.flags |= LOG_OTHER;
		if (ret_value->theirs != ret_value->version.changes)
			ret_value->item.flags |= LOG_THEIRS;
	}
	/* Readers pass over a carried record. */
	if (!ret_value->is_news)
		ret_value->item.flags |= LOG_CARRIED;
	if (payload->len > 0)
		return FATE_IN;
	ret_value->item.flags |= LOG_MARK;
	ret_value->until_ns =
	    bus__now_ns() + atomic_load_explicit(&bus__mark_ns, memory_order_relaxed);
	bus__log_bound_marks(reader, tail);
	return FATE_IN;
}

/* --- the transaction ----------------------------------------------------------------------------------------------- */

/* Makes room for the record, and finds the place of a value. */
static int
place_value(struct log *log, struct log_transaction *tx, struct value *value,
    const struct bus_slice *payload, uint64_t *ret_bytes, struct log_place **ret_place,
    uint64_t *ret_tag)
{
	struct log_item *item = &value->item;
	bool is_empty = payload->len + item->headers_len == 0;
	uint64_t begin = UINT64_MAX, bytes = 0;
	int err = 0;

	if (item->flags & LOG_RETAIN)
		item->flags |= is_empty ? LOG_NAMED | LOG_EMPTY : LOG_NAMED;
	/* In another segment the topic has to be named again. */
	while (err == 0 && begin != log->begin) {
		begin = log->begin;
		if (bus__log_has_to_name(log, item))
			item->flags |= LOG_NAMED;
		bytes = value_size(value, payload);
		err = bus__log_make_room(log, tx, bytes);
	}
	*ret_bytes = bytes;
	*ret_place = NULL;
	if (err < 0)
		return err;
	if (tx->at + bytes > log->mapped)
		bus__log_map(log, tx->at, tx->at + bytes);
	if (!(item->flags & LOG_RETAIN))
		return 0;
	if (!is_empty && !bus__log_may_keep(log, item->topic, bytes, tail_position(tx->word)))
		return BUS_E_LIMIT;
	*ret_place = bus__log_choose_place(
	    log, item->topic, log->begin + tx->at, tail_position(tx->word), ret_tag);
	return *ret_place != NULL ? 0 : BUS_E_LIMIT;
}

/* Notes a value, in another place if a revoked owner has just taken that one. */
static int
note_value(struct log *log, const struct log_transaction *tx, const struct log_topic *topic,
    struct log_place *place, uint64_t tag, uint64_t word)
{
	uint64_t position = log->begin + tx->at, tail = tail_position(tx->word);

	while (place != NULL && !bus__log_note_kept(log, place, tag, position, word, tail))
		place = bus__log_choose_place(log, topic, position, tail, &tag);
	return place != NULL ? 0 : BUS_E_LIMIT;
}

/* The transaction of a value. is_judged: it gets a version. */
static int
append_value(struct log *log, struct log_cursor *reader, const struct log_item *item,
    struct bus__offer *offer, bool is_judged, const struct bus_slice *payload,
    uint64_t *ret_sequence, struct bus__version *ret_ours)
{
	int64_t time_ns = item->time_ns != 0 ? item->time_ns : bus__wall_coarse_ns();

	if (bus__log_is_too_big(log, item, payload))
		return BUS_E_TOO_BIG;
	for (;;) {
		struct log_transaction tx = {.word = bus__log_lock_tail(log)};
		struct value value = {.item = *item, .is_news = true};
		enum fate fate = FATE_IN;
		struct log_place *place = NULL;
		uint64_t bytes = 0, word, at = 0, tag = 0;
		uint32_t topic;
		int err = 0;

		if (tx.word & TAIL_BITS)
			return bus__log_tail_error(tx.word);
		bus__log_stall(LOG_STALL_LOCKED);
		if (!bus__log_locate(log, &tx))
			err = BUS_E_DAMAGED;
		else if (is_judged)
			fate = decide(
			    log, reader, tail_position(tx.word), item, offer, payload, &value);
		/* Release: the reads come before a writer finds the memory free. */
		bus__log_let_go(reader);
		if (err == 0 && fate == FATE_IN)
			err = place_value(log, &tx, &value, payload, &bytes, &place, &tag);
		if (err == 0 && fate == FATE_IN) {
			at = log->begin + tx.at;
			if (!(value.item.flags & LOG_NAMED))
				at = atomic_load_explicit(
				    &item->topic->named_at, memory_order_relaxed);
			topic = topic_at(at - log->begin);
			word =
			    write_value(log->bytes + tx.at, topic, &value, payload, bytes, time_ns);
			if (place != NULL)
				err = note_value(log, &tx, item->topic, place, tag, word);
		}
		if (err < 0 || fate != FATE_IN) {
			/* As in append_some(). */
			if (!bus__log_move_tail(log, &tx, tail_position(tx.word), false))
				continue;
			bus__log_acknowledge(log);
			if (err == 0 && fate == FATE_OURS) {
				*ret_ours = value.version;
				return LOG_OURS;
			}
			return err;
		}
		*ret_sequence = (log->first + tx.count) & SEQUENCE_MASK;
		tx.at += bytes;
		tx.count += value.is_news;
		bus__log_stall(LOG_STALL_COPIED);
		bus__log_stall(LOG_STALL_PUBLISH);
		bus__log_note_count(log, &tx);
		if (bus__log_move_tail(log, &tx, log->begin + tx.at, false)) {
			if (value.item.flags & LOG_NAMED)
				bus__log_remember(log, item->topic, at);
			bus__log_acknowledge(log);
			return 1;
		}
		bus__log_acknowledge(log);
	}
}

int
bus__log_append_kept(struct log *writer, const struct log_item *item,
    const struct bus_slice *payload, uint64_t *ret_sequence)
{
	struct log_cursor reader = {.log = writer};

	return append_value(writer, &reader, item, NULL, false, payload, ret_sequence, NULL);
}

int
bus__log_append_value(struct log *log, const struct log_item *item, struct bus__offer *offer,
    const struct bus_slice *payload, uint64_t *ret_sequence, struct bus__version *ret_ours)
{
	struct log *writer = NULL;
	struct log_cursor reader = {.log = NULL};
	int got = bus__log_begin_append(log, item, &writer);

	if (got < 0)
		return got;
	reader.log = writer;
	return bus__log_end_append(writer,
	    append_value(writer, &reader, item, offer, true, payload, ret_sequence, ret_ours));
}
