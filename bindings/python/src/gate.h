/* gate.h: lets one thread end a C object that others use.
 *
 * libbus frees an object when it is closed; its Python object stays. So each call enters, uses the C
 * object and leaves. close() shuts the gate and waits for the calls inside. The rwlocks of glibc and
 * musl prefer readers, which cannot starve close(): no call enters a shut gate. */
#ifndef LIBBUS_PY_GATE_H
#define LIBBUS_PY_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include <libbus/error.h>

struct gate {
	pthread_rwlock_t inside;
	atomic_bool shut;
	uint32_t generation;
};

static inline void
gate_open(struct gate *gate)
{
	atomic_init(&gate->shut, false);
	gate->generation = bus__fork_generation();
	gate->inside = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
}

/* In a forked child the lock may stay held for ever, by a thread that was not forked: the child must not touch it. */
static inline bool
gate_forked(const struct gate *gate)
{
	return gate->generation != bus__fork_generation();
}

static inline bool
gate_is_shut(struct gate *gate)
{
	return atomic_load(&gate->shut) || gate_forked(gate);
}

/* 0: inside, until gate_leave(). Or BUS_E_CLOSED, BUS_E_FORKED. */
static inline int
gate_enter(struct gate *gate)
{
	if (gate_forked(gate))
		return BUS_E_FORKED;
	if (atomic_load(&gate->shut))
		return BUS_E_CLOSED;
	pthread_rwlock_rdlock(&gate->inside);
	if (!atomic_load(&gate->shut))
		return 0;
	pthread_rwlock_unlock(&gate->inside);
	return BUS_E_CLOSED;
}

static inline void
gate_leave(struct gate *gate)
{
	pthread_rwlock_unlock(&gate->inside);
}

/* true for exactly one caller, which then calls gate_wait() and ends the object. */
static inline bool
gate_shut(struct gate *gate)
{
	return !gate_forked(gate) && !atomic_exchange(&gate->shut, true);
}

/* Waits for the calls inside. Without the GIL: they may need it to leave. */
static inline void
gate_wait(struct gate *gate)
{
	pthread_rwlock_wrlock(&gate->inside);
	pthread_rwlock_unlock(&gate->inside);
}

#endif
