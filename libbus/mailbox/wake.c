/* mailbox/wake.c: a drainer's wait for a batch, and its wake-up. */
#include "mailbox/parts.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/park.h"
#include "base/thread.h"
#include "mailbox/fail.h"
#include "mailbox/group.h"

#define SPIN_FLOOR_NS    1000 /* always less than the wake-up that a spin saves */
#define SPIN_PAUSES      16   /* pauses between two looks at the clock */
#define FIRST_LOOKS      512
#define STALLS_PER_YIELD 4
#define YIELDS_MOST      64

/* --- waking ---------------------------------------------------------------------------------------------- */

static void
signal_fd(int fd)
{
	uint64_t one = 1;

	/* A write fails only when the counter is full, and then the fd is readable already. */
	if (fd >= 0 && bus__fd_write(fd, &one, sizeof one) < 0)
		return;
}

void
bus__mailbox_signal_fd(struct bus_mailbox *m)
{
	/* Acquire: pairs with the release of the thread that made it, perhaps just now. */
	signal_fd(atomic_load_explicit(&m->fd, memory_order_acquire));
}

bool
bus__mailbox_clear_fd(struct bus_mailbox *m)
{
	int fd = atomic_load_explicit(&m->fd, memory_order_acquire);
	uint64_t cleared;

	return fd < 0 || bus__fd_read(fd, &cleared, sizeof cleared) > 0 || errno == EAGAIN;
}

void
bus__mailbox_stir(struct bus_mailbox *m)
{
	/* Release: a drainer that sees this sees the reason for its wake-up. seq_cst: before bus__watch_call() looks. */
	atomic_fetch_add_explicit(&m->wakes, 1, memory_order_seq_cst);
	bus__unpark(&m->wakes);
	m->source->stir(m);
}

void
bus__mailbox_wake_all(struct bus_mailbox *m)
{
	bus__mailbox_stir(m);
	bus__mailbox_signal_fd(m);
}

void
bus__mailbox_wake_drainer(struct bus_mailbox *m)
{
	bus__mailbox_wake_all(m);
	if (bus__is_receiver(m))
		bus__mailbox_wake_all(m->queue); /* it sleeps there */
}

/* --- one for each kind of drainer: m->wake ------------------------------------------------------------------ */

void
bus__wake_sleeper(struct bus_mailbox *m, struct bus_mailbox **owed)
{
	(void)owed;
	/* The claim's CAS on tail makes an fd visible that was stored before the drainer slept. */
	bus__mailbox_wake_all(m);
}

void
bus__wake_receiver(struct bus_mailbox *m, struct bus_mailbox **owed)
{
	(void)owed;
	atomic_fetch_add_explicit(&m->wakes, 1, memory_order_release);
	bus__unpark_one(&m->wakes);
	bus__mailbox_signal_fd(m);
}

void
bus__wake_publisher(struct bus_mailbox *m, struct bus_mailbox **owed)
{
	/* Only one thread ends a sleep, so the link is ours until the next one. */
	m->next_owed = *owed;
	*owed = bus__mailbox_ref(m);
}

void
bus__wake_peer(struct bus_mailbox *m, struct bus_mailbox **owed)
{
	(void)owed;
	m->peer_wake(m->peer_arg);
	/* Release: pairs with bus__peer_close(), which frees peer_arg's object. */
	atomic_fetch_add_explicit(&m->peer_woken, 1, memory_order_release);
}

int
bus__mailbox_wake_now(struct bus_mailbox *m)
{
	struct bus_mailbox *owed = NULL;

	m->wake(m, &owed);
	bus__mailbox_drain_owed(owed);
	return 0;
}

/* --- waiting --------------------------------------------------------------------------------------------- */

void
bus__mailbox_learn_gap(struct bus_mailbox *m, int64_t gap_ns)
{
	if (gap_ns > 4 * SPIN_MOST_NS)
		gap_ns = 4 * SPIN_MOST_NS;
	m->gap_ns += (gap_ns - m->gap_ns) / 8;
}

/* The drainers that spin, of all buses. */
static _Atomic int spinners;

int64_t
bus__mailbox_spin_ns(const struct bus_mailbox *m)
{
	/* A message from a link needs another thread to run first, perhaps on this CPU. */
	if (m->gap_ns >= SPIN_MOST_NS ||
	    atomic_load_explicit(&m->queue->from_link, memory_order_relaxed) ||
	    m->gap_ns * 2 < SPIN_FLOOR_NS)
		return SPIN_FLOOR_NS;
	return m->gap_ns * 2 < SPIN_MOST_NS ? m->gap_ns * 2 : SPIN_MOST_NS;
}

static bool
spin_until(struct bus_mailbox *m, int64_t deadline_ns)
{
	int64_t budget = bus__mailbox_spin_ns(m), begun, now;

	begun = bus__now_ns();
	do {
		/* With a spinner on every CPU, a runnable thread may have none. Yield. */
		if (atomic_load_explicit(&spinners, memory_order_relaxed) >= bus__cpus())
			sched_yield();
		for (int i = 0; i < SPIN_PAUSES; i++) {
			if (m->source->look(m)) {
				bus__mailbox_learn_gap(m, bus__now_ns() - begun);
				return true;
			}
			bus__cpu_relax();
		}
		now = bus__now_ns();
	} while (now - begun < budget && now < deadline_ns);
	/* The thread that ends the sleep sets it again. */
	atomic_store_explicit(&m->queue->from_link, false, memory_order_relaxed);
	return false;
}

/* Spins for a message as long as that is probably cheaper than sleeping. true: one arrived. */
static bool
spin(struct bus_mailbox *m, int64_t deadline_ns)
{
	bool came;

	if (bus__cpus() == 1 || deadline_ns == 0 || (bus__is_receiver(m) && !bus__group_takes(m)))
		return false;
	atomic_fetch_add_explicit(&spinners, 1, memory_order_relaxed);
	came = spin_until(m, deadline_ns);
	atomic_fetch_sub_explicit(&spinners, 1, memory_order_relaxed);
	return came;
}

bool
bus__mailbox_has_to_leave(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->closed, memory_order_acquire) ||
	       atomic_load_explicit(&m->stop, memory_order_acquire);
}

/* Ends requests in time. true: it did. *ret_until_ns: how long the drainer may sleep. A reply in time lies in the
 * log even if the drainer is late: the log is read first. */
static bool
heed_deadlines(struct bus_mailbox *m, int64_t deadline_ns, int64_t *ret_until_ns)
{
	int64_t due_ns = atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed);

	*ret_until_ns = due_ns < deadline_ns ? due_ns : deadline_ns;
	return due_ns != INT64_MAX && m->source->has_read_for(m, due_ns) && bus__requests_heed(m);
}

/* Returns to a program that waits for messages, so that it sees its signal handler's effects. Our own threads have no handlers. */
static bool
was_interrupted(struct bus_mailbox *m)
{
	bool was = m->interrupted && m->drain == BUS_DRAIN_CALLER;

	m->interrupted = false;
	return was;
}

void
bus__mailbox_give_way(struct bus_mailbox *m, unsigned times)
{
	if (times < YIELDS_MOST)
		sched_yield();
	else
		bus__park(&m->wakes, atomic_load_explicit(&m->wakes, memory_order_relaxed),
		    bus__now_ns() + NAP_NS);
}

uint32_t
bus__mailbox_await_batch(struct bus_mailbox *m, unsigned phase, int64_t deadline_ns)
{
	/* Closely following messages are found without a look at the clock, which takes as long as a cache line between CPUs;
	 * but not where others wait for the head lock. */
	unsigned looks =
		     bus__cpus() > 1 && deadline_ns != 0 && !bus__is_receiver(m) ? FIRST_LOOKS : 1,
		 stalls = 0;
	const struct ring *ring = &m->queue->ring;
	bool last = false;

	for (;;) {
		int64_t until_ns;
		uint32_t count;

		/* The program may have waited for this. */
		if (heed_deadlines(m, deadline_ns, &until_ns))
			return 0;
		count = m->source->take(m, phase, looks);
		if (count > 0 || last)
			return count;
		bus__heed(m->bus);
		if (m->drain == BUS_DRAIN_CALLER && m->source->error(m) < 0)
			return 0;
		m->source->idle(m, until_ns);
		if (!spin(m, until_ns)) {
			if (!m->source->rest(m, until_ns) &&
			    (until_ns == deadline_ns || bus__mailbox_has_to_leave(m)))
				return 0;
			if (was_interrupted(m))
				return 0;
			/* Claimed and not committed: its publisher may have lost the CPU or be stopped. Yield ours. */
			if (!bus__ring_empty(ring) && ++stalls % STALLS_PER_YIELD == 0)
				bus__mailbox_give_way(m, stalls / STALLS_PER_YIELD);
		}
		/* A closed ring cannot sleep. A caller leaves at once, a thread when it is stopped and the mailbox empty. */
		if (atomic_load_explicit(&m->closed, memory_order_acquire) &&
		    (m->drain == BUS_DRAIN_CALLER ||
			(atomic_load_explicit(&m->stop, memory_order_acquire) &&
			    m->source->is_empty(m))))
			return 0;
		last = deadline_ns != INT64_MAX && bus__now_ns() >= deadline_ns;
	}
}

/* --- the descriptor -------------------------------------------------------------------------------------- */

/* Bus lock. */
static int
make_fd(struct bus_mailbox *m, bool holds_some)
{
	int err, fd = bus__fd_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
	err = m->source->begin_poll(m);
	if (err == 0)
		err = bus__deadlines_watch(m, fd);
	if (err < 0) {
		bus__fd_close(fd);
		return err;
	}
	atomic_store_explicit(&m->fd, fd, memory_order_release);
	/* Readable, unless empty and asleep. Either this sees that a sleep has ended, or the thread that ends it
	 * sees the fd: both change tail. */
	if (holds_some || atomic_load_explicit(&m->closed, memory_order_acquire) ||
	    !bus__ring_fall_asleep(&m->ring) || !m->source->is_quiet(m))
		signal_fd(fd);
	return 0;
}

int
bus_mailbox_fd(struct bus_mailbox *m)
{
	int err = bus__mailbox_enter(m);

	if (err < 0)
		return bus__fail_mailbox(m, err);
	if (m->drain != BUS_DRAIN_CALLER || m->is_peer)
		return bus__fail_mailbox(m, BUS_E_INVAL);
	bus__lock(m->bus);
	err = bus__mailbox_enter(m); /* a closed bus makes no relay any more */
	if (err == 0 && m->queue->deadlines.epoll < 0)
		err = make_fd(m->queue, m->handled < m->batch.count);
	bus__unlock(m->bus);
	return err < 0 ? bus__fail_mailbox(m, err) : m->queue->deadlines.epoll;
}
