#define _POSIX_C_SOURCE 200809L
#include "mailbox/deadline.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/park.h"
#include "mailbox/mailbox.h"

void
bus__deadlines_init(struct deadlines *ds)
{
	atomic_init(&ds->next_ns, INT64_MAX);
	ds->epoll = ds->timer = -1;
}

void
bus__deadlines_fini(struct deadlines *ds)
{
	if (ds->timer >= 0)
		bus__fd_close(ds->timer);
	if (ds->epoll >= 0)
		bus__fd_close(ds->epoll);
	bus__free(ds->heap);
}

static int
system_error(void)
{
	return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
}

/* --- the descriptor --------------------------------------------------------------------------------------- */

static int
watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? system_error() : 0;
}

static int
make_timer(struct deadlines *ds)
{
	int timer, err;

	if (ds->epoll < 0 || ds->timer >= 0)
		return 0;
	timer = bus__fd_above_std(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (timer < 0)
		return system_error();
	err = watch(ds->epoll, timer);
	if (err < 0) {
		bus__fd_close(timer);
		return err;
	}
	ds->timer = timer;
	return 0;
}

/* Readable from due_ns on; an all-zero timer would never fire. */
static void
arm(const struct deadlines *ds, int64_t due_ns)
{
	struct itimerspec at = {.it_value = {.tv_nsec = 0}};

	if (ds->timer < 0)
		return;
	if (due_ns < 1)
		due_ns = 1;
	if (due_ns != INT64_MAX)
		at.it_value = (struct timespec){
		    .tv_sec = (time_t)(due_ns / NS_PER_S), .tv_nsec = (long)(due_ns % NS_PER_S)};
	timerfd_settime(ds->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

int
bus__deadlines_watch(struct bus_mailbox *m, int fd)
{
	struct deadlines *ds = &m->deadlines;
	int err;

	ds->epoll = bus__fd_above_std(epoll_create1(EPOLL_CLOEXEC));
	if (ds->epoll < 0)
		return system_error();
	err = watch(ds->epoll, fd);
	if (err == 0 && (ds->count > 0 || ds->now))
		err = make_timer(ds);
	if (err < 0) {
		bus__fd_close(ds->epoll);
		ds->epoll = -1;
		return err;
	}
	arm(ds, atomic_load_explicit(&ds->next_ns, memory_order_relaxed));
	return 0;
}

/* --- the heap ---------------------------------------------------------------------------------------------- */

static void
place(struct deadlines *ds, size_t at, struct deadline *d)
{
	ds->heap[at] = d;
	d->at = at;
}

static void
rise(struct deadlines *ds, struct deadline *d)
{
	size_t at = d->at;

	for (; at > 1 && ds->heap[at / 2]->due_ns > d->due_ns; at /= 2)
		place(ds, at, ds->heap[at / 2]);
	place(ds, at, d);
}

static void
sink(struct deadlines *ds, struct deadline *d)
{
	size_t at = d->at, child;

	while ((child = 2 * at) <= ds->count) {
		child += child < ds->count && ds->heap[child + 1]->due_ns < ds->heap[child]->due_ns;
		if (ds->heap[child]->due_ns >= d->due_ns)
			break;
		place(ds, at, ds->heap[child]);
		at = child;
	}
	place(ds, at, d);
}

/* Wakes the drainer if it may sleep past that. */
static void
show(struct bus_mailbox *m)
{
	struct deadlines *ds = &m->deadlines;
	int64_t was = atomic_load_explicit(&ds->next_ns, memory_order_relaxed);
	int64_t next = ds->count > 0 ? ds->heap[1]->due_ns : INT64_MAX;

	if (ds->now)
		next = 0;
	if (next == was)
		return;
	atomic_store_explicit(&ds->next_ns, next, memory_order_relaxed);
	arm(ds, next);
	if (next > was)
		return;
	bus__mailbox_stir(m);
}

static int
make_room(struct deadlines *ds)
{
	size_t cap = ds->cap == 0 ? 8 : 2 * ds->cap;
	struct deadline **heap;

	if (ds->count + 1 < ds->cap)
		return 0;
	heap = bus__realloc(ds->heap, cap * sizeof *heap);
	if (heap == NULL)
		return BUS_E_NOMEM;
	ds->heap = heap;
	ds->cap = cap;
	return 0;
}

int
bus__deadlines_set(struct bus_mailbox *m, struct deadline *d, int64_t due_ns)
{
	struct deadlines *ds = &m->deadlines;
	int err;

	if (d->at == 0) {
		err = make_room(ds);
		if (err == 0)
			err = make_timer(ds);
		if (err < 0)
			return err;
		place(ds, ++ds->count, d);
	}
	d->due_ns = due_ns;
	rise(ds, d);
	sink(ds, d);
	show(m);
	return 0;
}

void
bus__deadlines_remove(struct bus_mailbox *m, struct deadline *d)
{
	struct deadlines *ds = &m->deadlines;
	struct deadline *last;

	if (d->at == 0)
		return;
	last = ds->heap[ds->count--];
	if (last != d) {
		place(ds, d->at, last);
		rise(ds, last);
		sink(ds, last);
	}
	d->at = 0;
	show(m);
}

struct deadline *
bus__deadlines_due(const struct deadlines *ds, int64_t now_ns)
{
	return ds->count > 0 && ds->heap[1]->due_ns <= now_ns ? ds->heap[1] : NULL;
}

void
bus__deadlines_ring(struct bus_mailbox *m, bool now)
{
	m->deadlines.now = now;
	show(m);
}
