/* mailbox/from_ring.c: a mailbox whose messages publishers put into its own ring.
 *
 * The bus__ring_only_* functions serve every source that has a ring and nothing else. */
#include "mailbox/parts.h"

#include <string.h>

#include "base/clock.h"
#include "base/offer.h"
#include "base/park.h"
#include "mailbox/call.h"
#include "mailbox/source.h"

/* --- a batch ------------------------------------------------------------------------------------------------- */

uint32_t
bus__mailbox_take_frames(struct bus_mailbox *m, unsigned phase, unsigned looks, uint32_t most)
{
	struct ring *ring = &m->queue->ring;
	uint64_t before = bus__ring_out(ring);
	uint32_t count;
	bool starved;

	bus__ring_ready(ring, looks);
	count = bus__ring_take(ring, &m->batch, most);
	m->at = m->handled = 0;
	m->carried = bus__lost_sum(m->carried, m->batch.lost);
	if (count > 0) /* its only writer while it is 0 */
		atomic_store_explicit(&m->phase, phase, memory_order_relaxed);
	/* A claim that was given up makes room, too. */
	starved = ring->starved && bus__ring_out(ring) != before;
	ring->starved &= !starved;
	bus__ring_unlock(ring);
	if (starved)
		bus__mailbox_announce_room(m->queue);
	return count;
}

static uint32_t
take(struct bus_mailbox *m, unsigned phase, unsigned looks)
{
	bus__ring_lock(&m->ring);
	return bus__mailbox_take_frames(m, phase, looks, RING_TAKE_FRAMES);
}

void
bus__ring_only_next(struct bus_mailbox *m, struct ring_view *ret_view)
{
	bus__ring_read(&m->batch, &m->at, ret_view);
}

/* Calls back the frames without extensions that follow: fields that they lack are 0 in m->msg already. Ends early before
 * another kind of frame, and when a thread waits for a signal. A separate function has enough registers. */
static __attribute__((noinline)) void
call_plain(struct bus_mailbox *m, uint32_t end)
{
	const uint8_t *frame = m->batch.bytes + m->at;
	uint64_t word, route_word;
	uint32_t left = end - m->handled, phase = 0;

	for (; left > 0 && !(phase & PHASE_WAITED); left--) {
		uint64_t position = m->batch.begin + (uint64_t)(frame - m->batch.bytes);
		const struct route *route;

		memcpy(&word, frame, 8);
		if ((word >> 32 & 0xffff) != RING_COMMITTED)
			break;
		memcpy(&route_word, frame + 8, 8);
		route = (const struct route *)(uintptr_t)route_word;
		m->msg.topic = route->topic->name;
		m->msg.data = frame + RING_FRAME_HEAD;
		m->msg.len = (uint32_t)word;
		m->msg.type = (uint8_t)(word >> 48);
		frame += bus__ring_small_bytes((uint32_t)word);
		if (bus__call_subs(route, position, NULL, NULL, &m->msg))
			bus__count_one(&m->delivered);
		else
			bus__count_one(&m->unsubscribed);
		phase = atomic_load_explicit(&m->phase, memory_order_relaxed);
	}
	m->at = (uint32_t)(frame - m->batch.bytes);
	m->handled = end - left;
}

static bool
run(struct bus_mailbox *m, uint32_t end)
{
	if (m->carried == 0)
		call_plain(m, end);
	return false;
}

void
bus__ring_only_nothing(struct bus_mailbox *m)
{
	(void)m;
}

unsigned
bus__ring_only_see_run(struct bus_mailbox *m, struct plain_run *ret_run)
{
	const uint8_t *frame = m->batch.bytes + m->at;
	uint32_t left = m->batch.count - m->handled;
	uint64_t first_word = 0, first_route = 0;
	unsigned n;

	/* The next message reports the loss. */
	if (m->carried != 0)
		return 0;
	for (n = 0; n < PLAIN_RUN && n < left; n++) {
		struct ring_view view = {
		    .position = m->batch.begin + (uint64_t)(frame - m->batch.bytes)};
		uint64_t word, route_word;

		memcpy(&word, frame, 8);
		memcpy(&route_word, frame + 8, 8);
		view.route = (void *)(uintptr_t)route_word;
		if (n == 0) {
			first_word = word;
			ret_run->topic_serial = ((const struct route *)view.route)->topic->serial;
			ret_run->type = (uint8_t)(word >> 48);
			first_route = route_word;
		}
		if ((word >> 32 & 0xffff) != RING_COMMITTED || (word ^ first_word) >> 48 != 0 ||
		    route_word != first_route || !bus__is_wanted(&view, m->only))
			break;
		ret_run->items[n] = (struct bus_slice){frame + RING_FRAME_HEAD, (uint32_t)word};
		frame += bus__ring_small_bytes((uint32_t)word);
		ret_run->next[n] = (uint32_t)(frame - m->batch.bytes);
	}
	return n;
}

/* --- waiting for one ------------------------------------------------------------------------------------------- */

bool
bus__ring_only_look(struct bus_mailbox *m)
{
	struct ring *ring = &m->queue->ring;
	bool ready;

	/* The head lock is free between two such looks. */
	bus__ring_lock(ring);
	ready = bus__ring_ready(ring, SPIN_STEP);
	bus__ring_unlock(ring);
	return ready;
}

void
bus__ring_only_idle(struct bus_mailbox *m, int64_t deadline_ns)
{
	(void)m;
	(void)deadline_ns;
}

static bool
rest(struct bus_mailbox *m, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	int fd = atomic_load_explicit(&m->fd, memory_order_relaxed);
	int64_t begun;
	bool asleep = bus__ring_tail(&m->ring) & RING_ASLEEP;

	if (asleep && fd >= 0) {
		/* A late wake made it readable for messages that are long taken. */
		if (!bus__mailbox_clear_fd(m))
			return true;
		if (!(bus__ring_tail(&m->ring) & RING_ASLEEP) ||
		    atomic_load_explicit(&m->closed, memory_order_acquire)) {
			bus__mailbox_signal_fd(m);
			return true;
		}
	}
	if (!asleep) {
		/* Clear the fd first: the thread that ends the sleep makes it readable afterwards. */
		if (!bus__mailbox_clear_fd(m))
			return true;
		if (!bus__ring_sleep(&m->ring)) {
			bus__mailbox_signal_fd(m);
			return true;
		}
	}
	if (deadline_ns == 0 || bus__mailbox_has_to_leave(m))
		return false;
	begun = bus__now_ns();
	while (bus__ring_tail(&m->ring) & RING_ASLEEP) {
		if (atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed) < deadline_ns)
			return true; /* it arrived in between */
		if (bus__mailbox_has_to_leave(m))
			return false;
		switch (bus__park(&m->wakes, seen, deadline_ns)) {
		case BUS_E_TIMEDOUT:
			return false;
		case BUS__INTERRUPTED:
			m->interrupted = true;
			return true;
		}
		seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	}
	bus__mailbox_learn_gap(m, bus__now_ns() - begun);
	return true;
}

bool
bus__ring_only_has_read_for(struct bus_mailbox *m, int64_t due_ns)
{
	(void)m;
	(void)due_ns;
	return true;
}

static bool
is_empty(struct bus_mailbox *m)
{
	return bus__ring_empty(&m->ring);
}

int
bus__ring_only_error(const struct bus_mailbox *m)
{
	(void)m;
	return 0;
}

void
bus__ring_only_version(const struct bus_mailbox *m, struct bus__version *version)
{
	const struct bus__block *block;

	if (!(m->msg_frame & RING_BLOCK))
		return;
	block = (const struct bus__block *)((const uint8_t *)m->msg.data -
					    offsetof(struct bus__block, data));
	version->changes = block->changes;
}

int
bus__ring_only_unpark(struct bus_mailbox *m)
{
	(void)m;
	return 0;
}

/* --- any thread ---------------------------------------------------------------------------------------------------- */

/* Publishers wake a poll loop, and the link thread. */
int
bus__ring_only_begin_poll(struct bus_mailbox *m)
{
	(void)m;
	return 0;
}

bool
bus__ring_only_is_quiet(struct bus_mailbox *m)
{
	(void)m;
	return true;
}

/* Its marks are positions of the ring, which each mailbox has. */
uint64_t
bus__ring_only_mark(const struct bus_mailbox *m)
{
	(void)m;
	return 0;
}

bool
bus__ring_only_has_passed(struct bus_mailbox *m, uint64_t mark)
{
	(void)m;
	(void)mark;
	return true;
}

uint64_t
bus__ring_only_behind(struct bus_mailbox *m)
{
	return bus__ring_tail(&m->ring) & ~RING_FLAG_BITS;
}

void
bus__ring_only_progress(struct bus_mailbox *m, struct progress *progress)
{
	(void)m;
	(void)progress;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static int
init(struct bus_mailbox *m, const struct bus_mailbox_config *cfg)
{
	return bus__ring_init(&m->ring, bus__mailbox_bytes(cfg), 0);
}

static void
fini(struct bus_mailbox *m)
{
	bus__ring_fini(&m->ring);
}

static void
shut(struct bus_mailbox *m)
{
	bus__ring_close(&m->ring);
}

const struct source bus__from_ring = {
    .take = take,
    .next = bus__ring_only_next,
    .run = run,
    .keep = bus__ring_only_nothing,
    .done = bus__ring_only_nothing,
    .look = bus__ring_only_look,
    .idle = bus__ring_only_idle,
    .rest = rest,
    .has_read_for = bus__ring_only_has_read_for,
    .is_empty = is_empty,
    .error = bus__ring_only_error,
    .version = bus__ring_only_version,
    .see_run = bus__ring_only_see_run,
    .leave = bus__ring_only_nothing,
    .peer_rests = bus__ring_only_nothing,
    .park = bus__ring_only_nothing,
    .unpark = bus__ring_only_unpark,
    .stir = bus__ring_only_nothing,
    .begin_poll = bus__ring_only_begin_poll,
    .is_quiet = bus__ring_only_is_quiet,
    .mark = bus__ring_only_mark,
    .has_passed = bus__ring_only_has_passed,
    .behind = bus__ring_only_behind,
    .progress = bus__ring_only_progress,
    .init = init,
    .fini = fini,
    .shut = shut,
    .stop = bus__ring_only_nothing,
};
