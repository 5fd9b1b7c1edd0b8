/* calls.hpp: the calls that the library makes when it is compiled for the models: those that the compiler puts
 * before each access, those that shim.h names, and the floor below, of which models have their own. */
#ifndef MODELS_CALLS_HPP
#define MODELS_CALLS_HPP

#include "memory.hpp"

/* --- what the compiler calls --------------------------------------------------------------------------------- */

#define PC __builtin_return_address(0)

extern "C" {

void
__tsan_init(void)
{
}

void
__tsan_func_entry(void *)
{
}

void
__tsan_func_exit(void)
{
}

void
__tsan_read_range(void *at, unsigned long size)
{
	memory::plain(at, size, memory::PLAIN_LOAD, PC);
}

void
__tsan_write_range(void *at, unsigned long size)
{
	memory::plain(at, size, memory::PLAIN_STORE, PC);
}

#define ACCESS(SIZE)                                                                               \
	void __tsan_read##SIZE(void *at)                                                           \
	{                                                                                          \
		memory::plain(at, SIZE, memory::PLAIN_LOAD, PC);                                   \
	}                                                                                          \
	void __tsan_write##SIZE(void *at)                                                          \
	{                                                                                          \
		memory::plain(at, SIZE, memory::PLAIN_STORE, PC);                                  \
	}
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

#define RMW(BITS, NAME, EXPRESSION)                                                                \
	uint##BITS##_t __tsan_atomic##BITS##_##NAME(                                               \
	    volatile void *at, uint##BITS##_t v, int order)                                        \
	{                                                                                          \
		typedef uint##BITS##_t T;                                                          \
		return memory::rmw((volatile T *)at, #NAME,                                        \
		    [v](T old) -> T {                                                              \
			    (void)old;                                                             \
			    return (T)(EXPRESSION);                                                \
		    },                                                                             \
		    order, PC);                                                                    \
	}
#define ATOMIC(BITS)                                                                               \
	uint##BITS##_t __tsan_atomic##BITS##_load(const volatile void *at, int order)              \
	{                                                                                          \
		return memory::load((const volatile uint##BITS##_t *)at, order, PC);               \
	}                                                                                          \
	void __tsan_atomic##BITS##_store(volatile void *at, uint##BITS##_t v, int order)           \
	{                                                                                          \
		memory::store((volatile uint##BITS##_t *)at, v, order, PC);                        \
	}                                                                                          \
	RMW(BITS, exchange, v)                                                                     \
	RMW(BITS, fetch_add, old + v)                                                              \
	RMW(BITS, fetch_sub, old - v)                                                              \
	RMW(BITS, fetch_and, old &v)                                                               \
	RMW(BITS, fetch_or, old | v)                                                               \
	RMW(BITS, fetch_xor, old ^ v)                                                              \
	int __tsan_atomic##BITS##_compare_exchange_strong(                                         \
	    volatile void *at, void *expected, uint##BITS##_t v, int order, int failure)           \
	{                                                                                          \
		typedef uint##BITS##_t T;                                                          \
		return memory::compare_exchange(                                                   \
		    (volatile T *)at, (T *)expected, v, order, failure, false, PC);                \
	}                                                                                          \
	int __tsan_atomic##BITS##_compare_exchange_weak(                                           \
	    volatile void *at, void *expected, uint##BITS##_t v, int order, int failure)           \
	{                                                                                          \
		typedef uint##BITS##_t T;                                                          \
		return memory::compare_exchange(                                                   \
		    (volatile T *)at, (T *)expected, v, order, failure, true, PC);                 \
	}
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

/* --- what shim.h and the floor below name ------------------------------------------------------------------------ */

void *
model_memcpy(void *to, const void *from, size_t size)
{
	memory::plain(from, size, memory::PLAIN_LOAD, PC);
	memory::plain(to, size, memory::PLAIN_STORE, PC);
	return memcpy(to, from, size);
}

void *
model_memset(void *to, int byte, size_t size)
{
	if (memory::checking && byte == 0) {
		if (memory::is_spoiled(OP_CLEAR, SKIPPED, (uintptr_t)to, PC))
			return to;
		if (memory::is_spoiled(OP_CLEAR, LATE, (uintptr_t)to, PC)) {
			memory::postponed &p = memory::late_clears[rl::ctx().threadx_->index_];

			p.at = p.size == 0 ? to : p.at;
			p.size += size; /* a run is cleared piece by piece */
			return to;
		}
	}
	memory::plain(to, size, memory::PLAIN_STORE, PC);
	return memset(to, byte, size);
}

void
bus__log_copy(void *to, const void *from, uint64_t bytes)
{
	memory::try_copy(to, from, (size_t)bytes, PC);
}

int
model_yield(void)
{
	if (memory::checking) {
		memory::switching here;

		rl::ctx().yield(1, memory::place(PC));
	}
	return 0;
}

int
model_lock(void *mutex)
{
	volatile uint32_t *word = (volatile uint32_t *)mutex;

	while (memory::rmw(
		   word, "lock", [](uint32_t) -> uint32_t { return 1; }, rl::mo_acquire, PC) != 0)
		model_yield();
	return 0;
}

int
model_unlock(void *mutex)
{
	memory::store((volatile uint32_t *)mutex, (uint32_t)0, rl::mo_release, PC);
	return 0;
}

/* Time stands still, except for a thread that waits for its turn at a log. */
static int64_t clock_ns;

void *model_frame(void);

int64_t
bus__now_ns(void)
{
	return clock_ns;
}

int64_t
bus__wall_coarse_ns(void)
{
	return 0;
}

int64_t
bus__wall_ns(void)
{
	return 0;
}

int64_t
bus__deadline_ns(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : timeout_ms;
}

int bus__park_shared(uint32_t *word, uint32_t seen, int64_t deadline_ns);

uintptr_t
bus__thread_word_slowly(void)
{
	return (uintptr_t)model_frame();
}

bool
bus__may_wait(void)
{
	return true;
}

int64_t
bus__wait_limit(void)
{
	return INT64_MAX;
}

/* The kernel compares the newest value and goes to sleep in one step, and orders nothing for the program. */
int
bus__park(uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	memory::region *r = memory::step(word);

	if (r == NULL)
		return 0;
	model_pause(40); /* the way into the kernel is long */
	/* Whoever has seen the newest value does not see an older one after. */
	rl::ctx().threadx_->atomic_load_relaxed_rmw(
	    memory::atom_at(*r, (uintptr_t)word, *word).data);
	if (*word != seen)
		return 0;
	/* A thread that waits for another thread of its process runs out of patience too, as in bus__park_shared(). */
	if (strcmp(memory::name_of((uintptr_t)word), "handed") == 0)
		return bus__park_shared(word, seen, 0);
	/* No time passes: a deadline to come never does, or it would end a sleep that was not. */
	if (deadline_ns <= bus__now_ns())
		return BUS_E_TIMEDOUT;
	memory::switching here;

	memory::futex_at(word).sleepers.park_current(
	    rl::ctx(), false, false, false, memory::place(PC));
	return 0;
}

/* In a log: whoever waits for his turn is out of patience when he comes back, a few times in each schedule: two who
 * always were would replace one another for ever. Whoever waits for news has nothing but the wake-up, for the cap of its
 * sleep would hide one that was lost. */
int
bus__park_shared(uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	if (deadline_ns - clock_ns > 100000000)
		return bus__park(word, seen, INT64_MAX);
	clock_ns += clock_ns < 600000000 ? 100000000 : 2000000;
	model_yield();
	return BUS_E_TIMEDOUT;
}

void bus__unpark(uint32_t *word);

void
bus__unpark_shared(uint32_t *word)
{
	bus__unpark(word);
}

void
bus__unpark(uint32_t *word)
{
	if (!memory::checking)
		return;
	memory::step(word);
	memory::note(PC, "<%s> wake-up", memory::name_of((uintptr_t)word));
	memory::futex_at(word).sleepers.unpark_all(rl::ctx(), memory::place(PC));
}

void
bus__unpark_one(uint32_t *word)
{
	if (!memory::checking)
		return;
	memory::step(word);
	memory::note(PC, "<%s> one wake-up", memory::name_of((uintptr_t)word));
	memory::futex_at(word).sleepers.unpark_one(rl::ctx(), memory::place(PC));
}

void *
bus__malloc(size_t size)
{
	return memory::allocate(size, 16, PC);
}

void *
bus__calloc(size_t count, size_t size)
{
	return memset(memory::allocate(count * size, 16, PC), 0, count * size);
}

void *
bus__aligned(size_t alignment, size_t size)
{
	return memset(memory::allocate(size, alignment, PC), 0, size);
}

void
bus__free(void *block)
{
	memory::release(block, PC);
}

void *
bus__pages(size_t size)
{
	return memset(memory::allocate(size, 64, PC), 0, size);
}

void
bus__pages_free(void *pages, size_t)
{
	memory::release(pages, PC);
}

void *
bus__realloc(void *old, size_t size)
{
	memory::region *r = old != NULL ? memory::region_of((uintptr_t)old) : NULL;
	void *moved = memory::allocate(size, 16, PC);
	size_t had = r != NULL ? r->end - r->begin : 0;

	memcpy(moved, old, had < size ? had : size);
	memory::release(old, PC);
	return moved;
}

char *
bus__strdup(const char *text)
{
	return (char *)memcpy(memory::allocate(strlen(text) + 1, 16, PC), text, strlen(text) + 1);
}

void *
model_frame(void)
{
	return (void *)(memory::checking ? (uintptr_t)(rl::ctx().current_thread() + 1) << 16 : 0);
}

/* The same in every schedule. */
ssize_t
model_random(void *out, size_t size, unsigned)
{
	memset(out, 42, size);
	return (ssize_t)size;
}

/* There is one CPU, so no thread spins. Models bring their own threads. */
int
bus__cpus(void)
{
	return 1;
}

int
bus__thread_start(void *, void *(*)(void *), void *)
{
	return BUS_E_LIMIT;
}

void
bus__thread_name(const char *)
{
}

/* No model reads a sentence. */
int
bus__fail(int err, const char *, ...)
{
	return err;
}

int
bus__fail_about(int err, const char *)
{
	return err;
}

const char *
bus_strerror(int)
{
	return "";
}

void
bus__thread_join(pthread_t)
{
}

/* Models of buses have private ones; those of the log make their own. */
int
bus__log_open(const char *, const char *, uint64_t, struct log **)
{
	return BUS_E_NOTSUP;
}

void
bus__log_close(struct log *)
{
}

void
bus__log_lock_list(void)
{
}

void
bus__log_unlock_list(void)
{
}

extern const char *const bus__log_suffixes[] = {"", "", ""};

int
bus__log_trouble(const struct log *)
{
	return 0;
}

void
bus__log_mend(struct log *)
{
}

bool
bus__log_begin_look(struct log *, int64_t)
{
	return true;
}

void
bus__log_note_pid(struct log *)
{
}

void
bus__log_forget_pid(struct log *, uint32_t)
{
}

bool
bus__log_hold_slot(struct log *, uint32_t)
{
	return false;
}

void
bus__log_let_slot_go(struct log *, uint32_t)
{
}

int
bus__log_role_take(struct log *, const char *, uint32_t *)
{
	return BUS_E_NOTSUP;
}

void
bus__log_role_end(struct log *, uint32_t)
{
}

/* bus_explain() reads those files; no model calls it. */
void
bus__explain_others(struct explaining *, struct bus *)
{
}

void
bus__explain_logged(struct explaining *, struct bus *, size_t)
{
}

void
bus__explain_next(struct explaining *, struct bus *)
{
}

/* What a process tells of itself goes into a file, and other models are not of that. */
void
bus__log_listens_begin(struct log *)
{
}

void
bus__log_listens_end(struct log *)
{
}

uint32_t
bus__log_listens_mailbox(struct log *, const struct log_listener *)
{
	return 0;
}

uint32_t
bus__log_listens_filter(struct log *, const struct log_listener *, const char *)
{
	return 0;
}

void
bus__log_listens_note(struct log *, uint32_t, const struct log_listener *)
{
}

void
bus__log_listens_drop(struct log *, uint32_t)
{
}

void
bus__log_listens_count(struct log *)
{
}

void
bus__log_listens_uncount(struct log *)
{
}

uint32_t
bus__log_pid(const struct log *, uint32_t)
{
	return 0;
}

void
model_share(const char *name, const void *begin, size_t size)
{
	memory::add_region(name, begin, size, NULL);
}

void
model_pause(unsigned most)
{
	if (!rl::ctx().is_random_sched())
		return;
	for (unsigned left = rl::ctx().rand(most + 1, rl::sched_type_user); left > 0; left--) {
		memory::switching here;

		rl::ctx().sched();
	}
}

int
model_self(void)
{
	return (int)rl::ctx().current_thread();
}

unsigned
model_choose(unsigned n)
{
	return rl::ctx().is_random_sched() ? rl::ctx().rand(n, rl::sched_type_user) : 0;
}

void
model_fail(const char *condition, const char *file, int line)
{
	rl::ctx().fail_test(condition, rl::test_result_user_assert_failed,
	    rl::debug_info("", file, (unsigned)line));
}
}

#endif
