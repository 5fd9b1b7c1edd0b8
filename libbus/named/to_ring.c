/* named/to_ring.c: a record as an item of a ring: a view of it where it lies in the log, and a copy of it in the mailbox's own ring. */
#include "bus/bus_internal.h"
#include "mailbox/call.h"
#include "named/reader.h"
#include "named/reader_parts.h"

static const struct {
	uint16_t in_log, in_ring;
} same_flags[] = {
    {LOG_RETAIN, RING_RETAIN},
    {LOG_EXPIRES, RING_TTL},
    {LOG_HEADERS, RING_HEADERS},
    {LOG_REPLY, RING_REPLY},
    {LOG_ANSWER, RING_ANSWER},
    {LOG_KEPT, RING_KEPT},
    {LOG_PASSED, RING_PASSED},
};

static void
make_view(const struct log_view *v, struct ring_view *ret_view)
{
	*ret_view = (struct ring_view){
	    .data = v->data,
	    .len = v->len,
	    .flags = RING_TIME,
	    .type = v->type,
	    .time_ns = v->time_ns,
	    .expires_ns = v->expires_ns,
	    .headers_len = v->headers_len,
	    .reply = v->reply,
	};
	for (size_t i = 0; i < sizeof same_flags / sizeof same_flags[0]; i++)
		if (v->flags & same_flags[i].in_log)
			ret_view->flags |= same_flags[i].in_ring;
	if (v->flags & LOG_ANSWER)
		ret_view->flags &= (uint16_t)~RING_REPLY; /* answer_route() has used its number */
}

bool
bus__reader_view(const struct taken *t, struct ring_view *ret_view)
{
	struct log_view view;
	bool whole = bus__log_read(t->word, t->record, &view);

	if (whole)
		make_view(&view, ret_view);
	else
		*ret_view = (struct ring_view){.data = t->record};
	if (t->reply != 0) {
		ret_view->flags |= RING_REPLY;
		ret_view->reply = t->reply;
	}
	if (ret_view->flags & RING_PASSED) /* bus__log_read() has found room for it */
		ret_view->passed = record_passed_at(t->word, t->record);
	ret_view->route = t->route;
	ret_view->position = t->sequence;
	return whole;
}

void
bus__reader_put(struct bus_mailbox *m, const struct ring_view *v, struct route *route,
    struct bus_sub *target, unsigned flags, struct bus_mailbox **owed)
{
	struct ring_item item = {
	    .route = route,
	    .data = v->data,
	    .headers = (const uint8_t *)v->data + v->len,
	    .len = v->len + v->headers_len,
	    .headers_len = v->headers_len,
	    .flags = (uint16_t)((v->flags & ~(unsigned)RING_PASSED) | flags),
	    .type = v->type,
	    .target = target,
	    .time_ns = v->time_ns,
	    .expires_ns = v->expires_ns,
	    .reply = v->reply,
	};
	struct bus__block *block = NULL;

	if (item.len > RING_INLINE_MAX && m->full != BUS_FULL_LATEST) {
		block = bus__block_new(NULL, item.len);
		if (block == NULL) {
			bus__ring_drop(&m->ring); /* counts the loss */
			return;
		}
		bus__ring_item_copy(block->data, &item);
		item.block = block;
	}
	bus__mailbox_put(m, &item, owed);
	bus__block_unref(block);
}

/* Chooses the next messages and puts them in under one hold of the reader lock: source.behind relies on it. */
static uint32_t
pump_some(struct bus_mailbox *m, struct pause *pause, uint64_t *lost)
{
	struct reader *r = m->reader;
	uint32_t count;

	pthread_mutex_lock(&r->lock);
	count = bus__reader_choose(m, pause);
	*lost += bus__log_lost(&r->cursor);
	for (uint32_t i = 0; i < count; i++) {
		struct bus_mailbox *owed = NULL; /* stays NULL: the drainer is awake */
		struct ring_view v;

		if (!bus__reader_view(&r->batch[i], &v))
			++*lost;
		/* A message from before the subscription is no news, and may be older than a kept value in the ring. */
		else if (v.flags & RING_ANSWER || bus__is_wanted(&v, NULL))
			bus__reader_put(m, &v, v.route, NULL, 0, &owed);
	}
	pthread_mutex_unlock(&r->lock);
	return count;
}

uint64_t
bus__reader_pump(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	uint64_t tail = bus__log_tail(r->log), lost = 0;
	struct pause pause;
	uint32_t count;

	if (!atomic_load_explicit(&r->begun, memory_order_acquire))
		return 0;
	if (r->last != NULL)
		bus__reader_find_last(m);
	do {
		count = pump_some(m, &pause, &lost);
		if (count == 0 && pause.unknown.len != 0)
			bus__reader_learn(m, &pause.unknown);
	} while (!bus__reader_is_over(count, &pause) && bus__log_position(&r->cursor) < tail &&
		 !(atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED));
	return lost;
}
