/* named/reader.c: the life of a reader, its cursor, and how far it has come. */
#include "named/reader.h"

#include "base/clock.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "named/reader_parts.h"

#define MOST_LAST 10000
#define LATE_MOST_NS                                                                               \
	INT64_C(1000000000) /* a request waits no longer for what the mailbox has not read */

/* --- life ------------------------------------------------------------------------------------------------------ */

/* A position beyond the end belongs to an earlier log, whatever epoch the caller gave. */
static int
check_position(struct log *log, const struct bus_mailbox_config *cfg)
{
	struct log_cursor now;
	uint64_t next;
	int err;

	if (cfg->from_epoch != 0 && cfg->from_epoch != log->epoch)
		return BUS_E_RESET;
	err = bus__log_cursor_open(log, LOG_FROM_NOW, 0, &now);
	if (err < 0)
		return err;
	next = now.sequence;
	bus__log_cursor_close(&now);
	return cfg->from_value < next ? 0 : BUS_E_RESET;
}

int
bus__reader_new(struct log *log, const struct bus_mailbox_config *cfg, struct reader **ret_reader)
{
	struct reader *r;
	int err = 0;

	if (cfg->from == BUS_FROM_LAST && cfg->from_value > MOST_LAST)
		err = BUS_E_LIMIT;
	else if (cfg->from == BUS_FROM_POSITION)
		err = check_position(log, cfg);
	if (err < 0)
		return err;
	r = bus__calloc(1, sizeof *r);
	if (r == NULL)
		return BUS_E_NOMEM;
	if (pthread_mutex_init(&r->lock, NULL) != 0) {
		bus__free(r);
		return BUS_E_NOMEM;
	}
	r->batch = bus__pages(READER_BATCH_BYTES);
	if (cfg->from == BUS_FROM_LAST)
		r->last = bus__calloc((size_t)cfg->from_value + 1, sizeof *r->last);
	if (r->batch == NULL || (cfg->from == BUS_FROM_LAST && r->last == NULL)) {
		bus__reader_free(r);
		return BUS_E_NOMEM;
	}
	r->log = log;
	r->from = cfg->from;
	r->value = cfg->from_value;
	r->since_ns = cfg->from == BUS_FROM_TIME ? (int64_t)cfg->from_value : INT64_MIN;
	atomic_init(&r->end, UINT64_MAX);
	*ret_reader = r;
	return 0;
}

void
bus__reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	bus__free(r->last);
	bus__heard_fini(&r->heard);
	bus__free(r->own);
	bus__pages_free(r->batch, READER_BATCH_BYTES);
	pthread_mutex_destroy(&r->lock);
	bus__free(r);
}

void
bus__reader_stop(struct bus_mailbox *m)
{
	struct reader *r = m->reader;

	pthread_mutex_lock(&r->lock);
	bus__watch_leave_locked(m);
	if (atomic_exchange_explicit(&r->begun, false, memory_order_acq_rel))
		bus__log_cursor_close(&r->cursor);
	atomic_store_explicit(&r->end, 0, memory_order_release); /* it does not open again */
	pthread_mutex_unlock(&r->lock);
}

int
bus__reader_open(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	enum log_from from = LOG_FROM_OLDEST;
	int err;

	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		return 0;
	if (atomic_load_explicit(&r->end, memory_order_relaxed) != UINT64_MAX)
		return BUS_E_CLOSED;
	if (r->parked != 0)
		from = LOG_FROM_SEQUENCE;
	else if (r->from == BUS_FROM_NOW)
		from = LOG_FROM_NOW;
	else if (r->from == BUS_FROM_POSITION)
		from = LOG_FROM_SEQUENCE;
	err = bus__log_cursor_open(
	    r->log, from, r->parked != 0 ? r->parked : r->value + 1, &r->cursor);
	if (err < 0)
		return err;
	r->parked = 0;
	atomic_store_explicit(&r->passed, bus__log_position(&r->cursor), memory_order_relaxed);
	bus__log_let_go(&r->cursor); /* the first read may be far off */
	/* Release: the drainer looks at the cursor without the lock. */
	atomic_store_explicit(&r->begun, true, memory_order_release);
	/* The drainer may sleep already, without having asked the log for a wake-up. */
	bus__mailbox_stir(m);
	if ((m->is_peer || atomic_load_explicit(&m->fd, memory_order_acquire) >= 0) &&
	    !bus__watch_enter_locked(m))
		bus__watch_tell(m);
	return 0;
}

int
bus__reader_start(struct bus_mailbox *m)
{
	int err;

	pthread_mutex_lock(&m->reader->lock);
	err = bus__reader_open(m);
	pthread_mutex_unlock(&m->reader->lock);
	return err;
}

void
bus__reader_park(struct bus_mailbox *m)
{
	struct reader *r = m->reader;

	pthread_mutex_lock(&r->lock);
	bus__watch_leave_locked(m);
	if (atomic_load_explicit(&r->begun, memory_order_relaxed)) {
		r->parked = r->cursor.sequence;
		/* Messages taken and not handed on are read again. */
		if (m->borrowed && m->at < m->batch.count)
			r->parked = r->batch[m->at].sequence;
		atomic_store_explicit(&r->begun, false, memory_order_release);
		bus__log_cursor_close(&r->cursor);
	}
	pthread_mutex_unlock(&r->lock);
}

/* --- how far it has come ---------------------------------------------------------------------------------------- */

bool
bus__reader_has_read_for(struct reader *r, int64_t due_ns)
{
	int64_t now = bus__now_ns();

	/* A damaged log ends the wait, and so does LATE_MOST_NS. */
	if (!atomic_load_explicit(&r->begun, memory_order_acquire) || bus__log_is_damaged(r->log) ||
	    now < due_ns || now - due_ns > LATE_MOST_NS)
		return true;
	if (r->due_ns != due_ns) {
		r->due_ns = due_ns;
		r->due_tail = bus__log_tail(r->log);
	}
	return bus__log_position(&r->cursor) >= r->due_tail || !bus__reader_has_news(r);
}

void
bus__reader_passed(struct reader *r)
{
	/* Release: pairs with bus_flush(): the callbacks before have run. */
	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		atomic_store_explicit(
		    &r->passed, bus__log_position(&r->cursor), memory_order_release);
}

void
bus__reader_rest(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		bus__log_let_go(&r->cursor);
	pthread_mutex_unlock(&r->lock);
}

bool
bus__reader_is_quiet(struct bus_mailbox *m)
{
	bool is_quiet;

	pthread_mutex_lock(&m->reader->lock);
	is_quiet = bus__watch_enter_locked(m);
	pthread_mutex_unlock(&m->reader->lock);
	return is_quiet;
}

void
bus__reader_peer_rests(struct bus_mailbox *m)
{
	bus__reader_rest(m->reader);
	/* The log has gone on. Wake the link thread instead of reading here, so that it does its other work first. */
	if (!bus__watch_enter(m))
		bus__watch_tell(m);
}

bool
bus__reader_has_passed(struct bus_mailbox *m, uint64_t position)
{
	const struct reader *r = m->reader;
	uint64_t end = atomic_load_explicit(&r->end, memory_order_acquire);

	if (!atomic_load_explicit(&r->begun, memory_order_acquire) || bus__log_is_damaged(r->log))
		return true;
	/* Nothing beyond its end is handled. */
	if (position > end)
		position = end;
	return atomic_load_explicit(&r->passed, memory_order_acquire) >= position ||
	       bus__watch_has_passed(m, position);
}

uint64_t
bus__reader_reached(struct bus_mailbox *m)
{
	return bus__watch_reached(
	    m, atomic_load_explicit(&m->reader->passed, memory_order_acquire));
}

void
bus__reader_set_end(struct reader *r)
{
	uint64_t open = UINT64_MAX;

	atomic_compare_exchange_strong_explicit(
	    &r->end, &open, bus__log_tail(r->log), memory_order_acq_rel, memory_order_relaxed);
}

bool
bus__reader_is_through(struct bus_mailbox *m)
{
	return bus__reader_has_passed(m, UINT64_MAX);
}
