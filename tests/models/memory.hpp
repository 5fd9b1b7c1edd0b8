/* memory.hpp: what the compiler calls for the library's atomics and accesses, answered by relacy.
 *
 * Each thread of a model is a fiber, and only one runs at a time. Relacy keeps, for every atomic, the last values
 * that a thread may still see, and for every thread a vector clock. An atomic operation is a point where another
 * fiber may go on, and a load may give an old value if C11 allows it. The bytes in memory are always the newest ones.
 *
 * A plain access is checked against all others by the clocks, so a race is found whether or not it did harm:
 * plain with plain as usual, and plain with atomic, since the ring clears by memset what are commit words later.
 * Behind a plain store an atomic begins anew with what is in memory: whoever may touch it without a race has
 * that store behind him. */
#ifndef MODELS_MEMORY_HPP
#define MODELS_MEMORY_HPP

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <libbus/error.h>

extern "C" {
#include "model.h"
}

namespace memory
{

constexpr size_t GRAIN = 4; /* bytes that share their clocks */
constexpr size_t MAX_GRAINS = 1 << 18, MAX_ATOMS = 4096, MAX_REGIONS = 128, MAX_FUTEXES = 8;

enum use { PLAIN_LOAD, PLAIN_STORE, ATOMIC_LOAD, ATOMIC_STORE, ACCESSES };

struct atom {
	rl::atomic_data *data;
	bool known; /* no plain store since its last operation */
	bool refused_once;
	uint64_t values[rl::atomic_history_size];
};

struct grain {
	unsigned long schedule; /* that what follows is of */
	atom *atoms[GRAIN];
	rl::timestamp_t last[ACCESSES][MODEL_THREADS];
};

struct region {
	const char *name;
	uintptr_t begin, end;
	grain *grains; /* NULL: only a name for a part of another one */
	void *block;   /* of relacy's heap, or NULL */
	int maker;     /* who allocated it, and when: like a plain store to all of it */
	rl::timestamp_t made;
	bool freed;
};

struct futex {
	const void *word;
	rl::waitset<MODEL_THREADS> sleepers;
};

struct postponed {
	void *at;
	size_t size;
};

/* A copy of what others may be writing. Whether that is a race is asked when it is believed: when its maker reads it. */
struct trial {
	uintptr_t from, to;
	size_t size;
	rl::timestamp_t when;
	bool open, torn;
};

static grain grains[MAX_GRAINS];
static atom atoms[MAX_ATOMS];
static region regions[MAX_REGIONS];
static futex futexes[MAX_FUTEXES];
static postponed late_clears[MODEL_THREADS];
static trial trials[MODEL_THREADS];
static size_t grains_used, atoms_used, regions_used, futexes_used;
static unsigned long schedule_number;
static bool checking; /* the threads of the model run; before and after, memory is just memory */
static const control *spoiled;
static unsigned long times_spoiled;
static void (*begin_history)(rl::atomic_data *data); /* of the model's number of threads */

/* --- thread-local variables ------------------------------------------------------------------------------ */

extern "C" char __start_model_locals[] __attribute__((weak)),
    __stop_model_locals[] __attribute__((weak));

static char locals[MODEL_THREADS][64];

/* Around each point at which another fiber may go on. */
struct switching {
	char *mine = locals[rl::ctx().threadx_->index_];
	size_t size = (size_t)(__stop_model_locals - __start_model_locals);

	switching()
	{
		memcpy(mine, __start_model_locals, size);
	}

	~switching()
	{
		memcpy(__start_model_locals, mine, size);
	}
};

/* --- names ----------------------------------------------------------------------------------------------- */

struct symbol {
	uintptr_t begin, end;
	char name[64];
};

static symbol symbols[4096];
static size_t symbols_used;
static bool print_lines;

/* Functions with internal linkage are what controls name most, and only nm knows those. */
static bool
read_symbols()
{
	char command[300], line[500];
	char path[200];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	FILE *nm;

	if (length < 0)
		return false;
	path[length] = 0;
	snprintf(command, sizeof command, "nm --defined-only --print-size '%s'", path);
	nm = popen(command, "r");
	if (nm == NULL)
		return false;
	while (fgets(line, sizeof line, nm) != NULL && symbols_used < 4096) {
		symbol &s = symbols[symbols_used];
		unsigned long begin, size;
		char kind;

		if (sscanf(line, "%lx %lx %c %63s", &begin, &size, &kind, s.name) != 4 ||
		    (kind != 't' && kind != 'T') || strncmp(s.name, "_Z", 2) == 0)
			continue;
		s.begin = begin;
		s.end = begin + size;
		symbols_used++;
	}
	return pclose(nm) == 0 && symbols_used > 0;
}

static const char *
function_at(void *pc)
{
	for (size_t i = 0; i < symbols_used; i++)
		if ((uintptr_t)pc - symbols[i].begin < symbols[i].end - symbols[i].begin)
			return symbols[i].name;
	return "?";
}

static rl::debug_info
place(void *pc)
{
	static struct {
		void *pc;
		char file[64];
		unsigned line;
	} known[512];
	char command[100], text[400], *colon, *slash;
	size_t i = 0;
	FILE *tool;

	if (!print_lines)
		return rl::debug_info(function_at(pc), "", 0);
	while (i < 511 && known[i].pc != NULL && known[i].pc != pc)
		i++;
	if (known[i].pc != pc) {
		known[i].pc = pc;
		/* The call comes before the place it returns to. */
		snprintf(command, sizeof command, "addr2line -e /proc/%d/exe %p", (int)getpid(),
		    (void *)((char *)pc - 1));
		tool = popen(command, "r");
		if (tool != NULL && fgets(text, sizeof text, tool) != NULL &&
		    (colon = strrchr(text, ':')) != NULL) {
			known[i].line = (unsigned)atoi(colon + 1);
			*colon = 0;
			slash = strrchr(text, '/');
			snprintf(known[i].file, sizeof known[i].file, "%.60s",
			    slash != NULL ? slash + 1 : text);
		}
		if (tool != NULL)
			pclose(tool);
	}
	return rl::debug_info(function_at(pc), known[i].file, known[i].line);
}

static region *
region_of(uintptr_t at)
{
	for (size_t i = 0; i < regions_used; i++)
		if (regions[i].grains != NULL &&
		    at - regions[i].begin < regions[i].end - regions[i].begin)
			return &regions[i];
	return NULL;
}

/* The last one that named the place: parts are named after the whole. */
static const char *
name_of(uintptr_t at)
{
	for (size_t i = regions_used; i-- > 0;)
		if (at - regions[i].begin < regions[i].end - regions[i].begin)
			return regions[i].name;
	return "?";
}

struct event {
	char text[120];

	void
	output(std::ostream &out) const
	{
		out << text;
	}
};

static void
note(void *pc, const char *form, ...)
{
	rl::context &c = rl::ctx();
	event e;
	va_list arguments;

	if (!c.collecting_history())
		return;
	va_start(arguments, form);
	vsnprintf(e.text, sizeof e.text, form, arguments);
	va_end(arguments);
	c.exec_log(place(pc), e);
}

/* Whether this step is the one that the control spoils, in the way that is asked for. */
static bool
is_spoiled(operation op, weakening how, uintptr_t at, void *pc)
{
	if (spoiled == NULL || spoiled->weakening != how ||
	    (spoiled->operation != op && spoiled->operation != OP_ANY) ||
	    (spoiled->object != NULL && strcmp(spoiled->object, name_of(at)) != 0) ||
	    (spoiled->function != NULL && strcmp(spoiled->function, function_at(pc)) != 0))
		return false;
	times_spoiled++;
	return true;
}

extern "C" bool
model_spoils(const char *name)
{
	if (spoiled == NULL || spoiled->weakening != PLANTED || strcmp(spoiled->object, name) != 0)
		return false;
	times_spoiled++;
	return true;
}

/* --- clocks ---------------------------------------------------------------------------------------------- */

static grain &
grain_of(const region &r, uintptr_t at)
{
	grain &g = r.grains[at / GRAIN - r.begin / GRAIN];

	if (g.schedule != schedule_number) {
		memset(&g, 0, sizeof g);
		g.schedule = schedule_number;
		g.last[PLAIN_STORE][r.maker] = r.made;
	}
	return g;
}

/* Whether this access and one of the other kind need an order between them. */
static bool
conflict(use mine, use other)
{
	if (mine == PLAIN_STORE || other == PLAIN_STORE)
		return true;
	return (mine == PLAIN_LOAD && other == ATOMIC_STORE) ||
	       (mine == ATOMIC_STORE && other == PLAIN_LOAD);
}

static bool
overlap(uintptr_t at, size_t size, uintptr_t other, size_t other_size)
{
	return at < other + other_size && other < at + size;
}

/* A store that is not behind the copy in each order spoils it. */
static void
spoil_trials(uintptr_t at, size_t size)
{
	rl::thread_info_base &me = *rl::ctx().threadx_;

	for (int t = 0; t < rl::ctx().get_thread_count(); t++)
		if (trials[t].open && t != me.index_ &&
		    overlap(at, size, trials[t].from, trials[t].size) &&
		    me.acq_rel_order_[t] < trials[t].when)
			trials[t].torn = true;
}

/* What was copied is read: so it was read where it lay, at that time. */
static void
believe_trial(uintptr_t at, size_t size, void *pc)
{
	rl::thread_info_base &me = *rl::ctx().threadx_;
	trial &t = trials[me.index_];
	region *r;

	if (!t.open || !overlap(at, size, t.to, t.size) || (r = region_of(t.from)) == NULL)
		return;
	t.open = false;
	if (t.torn) {
		note(pc, "a copy of <%s+%zu> is believed, and is torn", name_of(t.from),
		    (size_t)(t.from - r->begin));
		rl::ctx().fail_test("", rl::test_result_data_race, place(pc));
	}
	for (uintptr_t i = t.from / GRAIN * GRAIN; i < t.from + t.size; i += GRAIN) {
		grain &g = grain_of(*r, i);

		if (g.last[PLAIN_LOAD][me.index_] < t.when)
			g.last[PLAIN_LOAD][me.index_] = t.when;
	}
}

static void
touch(const region &r, uintptr_t at, size_t size, use kind, void *pc)
{
	static const char *const words[] = {
	    "plain load", "plain store", "atomic load", "atomic store"};
	rl::context &c = rl::ctx();
	rl::thread_info_base &me = *c.threadx_;

	if (r.freed) {
		note(pc, "%s of freed memory", words[kind]);
		c.fail_test("", rl::test_result_access_to_freed_memory, place(pc));
	}
	if (kind == PLAIN_STORE || kind == ATOMIC_STORE)
		spoil_trials(at, size);
	else
		believe_trial(at, size, pc);
	me.own_acq_rel_order_ += 1;
	for (uintptr_t i = at / GRAIN * GRAIN; i < at + size; i += GRAIN) {
		grain &g = grain_of(r, i);

		for (int other = 0; other < ACCESSES; other++) {
			if (!conflict(kind, (use)other))
				continue;
			for (int t = 0; t < c.get_thread_count(); t++) {
				if (me.acq_rel_order_[t] >= g.last[other][t])
					continue;
				note(pc, "%s of <%s+%zu> races with a %s of thread %d", words[kind],
				    name_of(i), (size_t)(i - r.begin), words[other], t);
				c.fail_test("", rl::test_result_data_race, place(pc));
			}
		}
		g.last[kind][me.index_] = me.own_acq_rel_order_;
		if (kind == PLAIN_STORE)
			for (atom *a : g.atoms)
				if (a != NULL)
					a->known = false;
	}
}

static void
plain(const volatile void *address, size_t size, use kind, void *pc)
{
	uintptr_t at = (uintptr_t)address;
	region *r;

	if (!checking || size == 0 || (r = region_of(at)) == NULL)
		return;
	if (rl::ctx().collecting_history())
		note(pc, "<%s+%zu> %s of %zu", name_of(at), (size_t)(at - r->begin),
		    kind == PLAIN_STORE ? "plain store" : "plain load", size);
	touch(*r, at, size, kind, pc);
}

/* --- atomics --------------------------------------------------------------------------------------------- */

/* Relacy's record of an atomic that has had one value for as long as anybody remembers. */
template <int N>
static void
begin_history_of(rl::atomic_data *data)
{
	auto &d = *static_cast<rl::atomic_data_impl<N> *>(data);

	for (auto &record : d.history_)
		record.busy_ = false;
	d.current_index_ = rl::atomic_history_size;
	d.history_[0].busy_ = true;
	d.history_[0].seq_cst_ = false;
	d.history_[0].thread_id_ = 0;
	d.history_[0].acq_rel_timestamp_ = 0;
	for (int i = 0; i < N; i++) {
		d.history_[0].acq_rel_order_[i] = 0;
		d.history_[0].first_seen_order_[i] = (rl::timestamp_t)-1;
	}
}

static atom &
atom_at(const region &r, uintptr_t at, uint64_t newest)
{
	atom *&a = grain_of(r, at).atoms[at % GRAIN];

	if (a == NULL) {
		if (atoms_used == MAX_ATOMS)
			rl::ctx().fail_test("too many atomics",
			    rl::test_result_inconsistent_test_suite, rl::debug_info());
		a = &atoms[atoms_used++];
		a->data = rl::ctx().atomic_ctor(a);
		a->known = a->refused_once = false;
	}
	if (!a->known) {
		begin_history(a->data);
		a->values[0] = newest;
		a->known = true;
	}
	return *a;
}

/* The step of a thread at which others may go on, or have gone on. NULL: nothing that is shared. */
static region *
step(const volatile void *address)
{
	region *r = checking ? region_of((uintptr_t)address) : NULL;

	if (r != NULL) {
		switching here;

		rl::ctx().sched();
	}
	return r;
}

/* Copies word by word, between which others go on. */
static void
try_copy(void *to, const void *from, size_t size, void *pc)
{
	rl::thread_info_base *me = checking ? rl::ctx().threadx_ : NULL;
	region *r;

	if (me == NULL || (r = region_of((uintptr_t)from)) == NULL) {
		memcpy(to, from, size);
		return;
	}
	plain(to, size, PLAIN_STORE, pc);
	trial &t = trials[me->index_];

	t = {(uintptr_t)from, (uintptr_t)to, size, me->own_acq_rel_order_ += 1, true, false};
	for (size_t i = 0; i < size; i += 8) {
		uintptr_t at = (uintptr_t)from + i;

		step(from);
		for (uintptr_t k = at; k < at + 8; k += GRAIN) {
			grain &g = grain_of(*r, k);

			for (int other = 0; other < rl::ctx().get_thread_count(); other++)
				if (me->acq_rel_order_[other] < g.last[PLAIN_STORE][other] ||
				    me->acq_rel_order_[other] < g.last[ATOMIC_STORE][other])
					t.torn = true;
		}
		memcpy((char *)to + i, (const char *)from + i, 8);
	}
}

static void
clear_late()
{
	postponed &p = late_clears[rl::ctx().threadx_->index_];

	if (p.size == 0)
		return;
	plain(p.at, p.size, PLAIN_STORE, __builtin_return_address(0));
	memset(p.at, 0, p.size);
	p.size = 0;
}

template <typename T>
static T
load(const volatile T *address, int order, void *pc)
{
	rl::thread_info_base *me;
	region *r = step(address);
	uintptr_t at = (uintptr_t)address;
	unsigned index;

	if (r == NULL)
		return *address;
	touch(*r, at, sizeof(T), ATOMIC_LOAD, pc);
	atom &a = atom_at(*r, at, *address);

	if (order != rl::mo_relaxed && is_spoiled(OP_LOAD, RELAXED, at, pc))
		order = rl::mo_relaxed;
	me = rl::ctx().threadx_;
	index = order == rl::mo_relaxed   ? me->atomic_load_relaxed(a.data)
		: order == rl::mo_seq_cst ? me->atomic_load_seq_cst(a.data)
					  : me->atomic_load_acquire(a.data);
	note(pc, "<%s+%zu> load %#llx%s %s", name_of(at), (size_t)(at - r->begin),
	    (unsigned long long)a.values[index],
	    (T)a.values[index] != *address ? " (not the newest)" : "",
	    rl::format((rl::memory_order)order));
	return (T)a.values[index];
}

template <typename T>
static void
store(volatile T *address, T value, int order, void *pc)
{
	rl::thread_info_base *me;
	region *r = step(address);
	uintptr_t at = (uintptr_t)address;
	unsigned index;

	if (r == NULL) {
		*address = value;
		return;
	}
	if (is_spoiled(OP_STORE, SKIPPED, at, pc))
		return;
	touch(*r, at, sizeof(T), ATOMIC_STORE, pc);
	atom &a = atom_at(*r, at, *address);

	if (order != rl::mo_relaxed && is_spoiled(OP_STORE, RELAXED, at, pc))
		order = rl::mo_relaxed;
	me = rl::ctx().threadx_;
	index = order == rl::mo_relaxed   ? me->atomic_store_relaxed(a.data)
		: order == rl::mo_seq_cst ? me->atomic_store_seq_cst(a.data)
					  : me->atomic_store_release(a.data);
	a.values[index] = value;
	*address = value;
	note(pc, "<%s+%zu> store %#llx %s", name_of(at), (size_t)(at - r->begin),
	    (unsigned long long)value, rl::format((rl::memory_order)order));
	if (order == rl::mo_release)
		clear_late();
}

static unsigned
replace_newest(rl::thread_info_base *me, rl::atomic_data *data, int order)
{
	bool aba;

	switch (order) {
	case rl::mo_relaxed:
		return me->atomic_rmw_relaxed(data, aba);
	case rl::mo_release:
		return me->atomic_rmw_release(data, aba);
	case rl::mo_acq_rel:
		return me->atomic_rmw_acq_rel(data, aba);
	case rl::mo_seq_cst:
		return me->atomic_rmw_seq_cst(data, aba);
	default:
		return me->atomic_rmw_acquire(data, aba);
	}
}

/* change(old) is what comes instead of old. */
template <typename T, typename Change>
static T
rmw(volatile T *address, const char *word, Change change, int order, void *pc)
{
	region *r;
	uintptr_t at = (uintptr_t)address;
	unsigned index;
	T before;

	if (checking && is_spoiled(OP_RMW, SPLIT, at, pc)) {
		before =
		    load(address, order == rl::mo_release ? rl::mo_relaxed : rl::mo_acquire, pc);
		store(address, change(before),
		    order == rl::mo_acquire ? rl::mo_relaxed : rl::mo_release, pc);
		return before;
	}
	r = step(address);
	before = *address;
	if (r == NULL) {
		*address = change(before);
		return before;
	}
	if (is_spoiled(OP_RMW, SKIPPED, at, pc))
		return before;
	touch(*r, at, sizeof(T), ATOMIC_STORE, pc);
	atom &a = atom_at(*r, at, before);

	if (order != rl::mo_relaxed && is_spoiled(OP_RMW, RELAXED, at, pc))
		order = rl::mo_relaxed;
	index = replace_newest(rl::ctx().threadx_, a.data, order);
	a.values[index] = *address = change(before);
	note(pc, "<%s+%zu> %s: %#llx becomes %#llx %s", name_of(at), (size_t)(at - r->begin), word,
	    (unsigned long long)before, (unsigned long long)*address,
	    rl::format((rl::memory_order)order));
	return is_spoiled(OP_RMW, BLIND, at, pc) ? 0 : before;
}

/* A weak one may fail without reason: by chance, or once where all schedules are tried. */
static bool
fails_without_reason(atom &a)
{
	rl::context &c = rl::ctx();

	if (c.is_random_sched())
		return c.rand(4, rl::sched_type_cas_fail) == 0;
	if (a.refused_once || c.rand(2, rl::sched_type_cas_fail) != 0)
		return false;
	a.refused_once = true;
	return true;
}

template <typename T>
static int
compare_exchange(
    volatile T *address, T *expected, T desired, int order, int failure, bool weak, void *pc)
{
	rl::thread_info_base *me;
	region *r = step(address);
	uintptr_t at = (uintptr_t)address;
	T before = *address;
	bool equal = before == *expected;

	if (r == NULL) {
		if (equal)
			*address = desired;
		*expected = before;
		return equal;
	}
	touch(*r, at, sizeof(T), ATOMIC_STORE, pc);
	atom &a = atom_at(*r, at, before);

	if (order != rl::mo_relaxed && is_spoiled(OP_CAS, RELAXED, at, pc))
		order = rl::mo_relaxed;
	me = rl::ctx().threadx_;
	if (equal && is_spoiled(OP_CAS, SKIPPED, at, pc))
		return true;
	if (!equal && is_spoiled(OP_CAS, BLIND, at, pc)) {
		desired = (T)(before ^ *expected ^ desired);
		equal = true;
	} else if (equal && weak && fails_without_reason(a))
		equal = false;
	if (equal) {
		a.values[replace_newest(me, a.data, order)] = desired;
		*address = desired;
	} else {
		if (failure == rl::mo_relaxed)
			me->atomic_load_relaxed_rmw(a.data);
		else
			me->atomic_load_acquire_rmw(a.data);
		*expected = before;
	}
	note(pc, "<%s+%zu> compare-exchange: %#llx %s %#llx %s", name_of(at),
	    (size_t)(at - r->begin), (unsigned long long)before, equal ? "becomes" : "stays, not",
	    (unsigned long long)desired, rl::format((rl::memory_order)order));
	return equal;
}

/* --- a schedule ------------------------------------------------------------------------------------------ */

/* Returns its index. They stay where they are: another fiber may be in the middle of an access to one. */
static size_t
add_region(const char *name, const void *begin, size_t size, void *block)
{
	size_t index = 0;

	while (index < regions_used && regions[index].end != 0)
		index++;

	region &r = regions[index];

	if (index == MAX_REGIONS || grains_used + size / GRAIN + 2 > MAX_GRAINS)
		rl::ctx().fail_test(
		    "too much memory", rl::test_result_inconsistent_test_suite, rl::debug_info());
	r.name = name;
	r.begin = (uintptr_t)begin;
	r.end = r.begin + size;
	r.block = block;
	r.grains = NULL;
	r.maker = 0;
	r.made = 0;
	r.freed = false;
	if (region_of(r.begin) == NULL) {
		r.grains = &grains[grains_used];
		grains_used += size / GRAIN + 2;
	}
	regions_used += index == regions_used;
	return index;
}

static void
begin_schedule()
{
	checking = false;
	schedule_number++;
	grains_used = atoms_used = regions_used = futexes_used = 0;
	memset(late_clears, 0, sizeof late_clears);
	memset(trials, 0, sizeof trials);
	memset(locals, 0, sizeof locals);
	if ((size_t)(__stop_model_locals - __start_model_locals) > sizeof locals[0])
		rl::ctx().fail_test("too many thread-local variables",
		    rl::test_result_inconsistent_test_suite, rl::debug_info());
	memset(__start_model_locals, 0, (size_t)(__stop_model_locals - __start_model_locals));
}

static void
end_schedule()
{
	for (size_t i = 0; i < atoms_used; i++)
		rl::ctx().atomic_dtor(atoms[i].data);
}

/* Memory that the program allocates: handed out zeroed or not, it is the caller's until he shows it to others. */
static void *
allocate(size_t size, size_t alignment, void *pc)
{
	void *block = rl::ctx().alloc(size + alignment, false, place(pc));
	uintptr_t begin = ((uintptr_t)block + alignment - 1) / alignment * alignment;

	for (size_t i = 0; i < regions_used; i++)
		if (regions[i].block == block ||
		    (regions[i].freed && regions[i].block != NULL && begin < regions[i].end &&
			regions[i].begin < begin + size)) { /* freed, and handed out again */
			regions[i].block = NULL;
			regions[i].begin = regions[i].end = 0;
		}
	region &r = regions[add_region("heap", (void *)begin, size, block)];

	if (checking) {
		rl::thread_info_base &me = *rl::ctx().threadx_;

		me.own_acq_rel_order_ += 1;
		r.maker = me.index_;
		r.made = me.own_acq_rel_order_;
	}
	return (void *)begin;
}

/* Like a plain store to all that anybody has touched: freeing races with whoever may still read. */
static void
release(void *begin, void *pc)
{
	region *r = begin != NULL ? region_of((uintptr_t)begin) : NULL;

	if (begin == NULL)
		return;
	if (r == NULL || r->block == NULL)
		rl::ctx().fail_test("", rl::test_result_double_free, place(pc));
	for (uintptr_t at = r->begin; checking && at < r->end; at += GRAIN)
		if (r->grains[at / GRAIN - r->begin / GRAIN].schedule == schedule_number)
			touch(*r, at, 1, PLAIN_STORE, pc);
	rl::ctx().free(r->block, false, place(pc));
	r->freed = true;
}

static futex &
futex_at(const void *word)
{
	for (size_t i = 0; i < futexes_used; i++)
		if (futexes[i].word == word)
			return futexes[i];
	if (futexes_used == MAX_FUTEXES)
		rl::ctx().fail_test(
		    "too many futexes", rl::test_result_inconsistent_test_suite, rl::debug_info());
	futexes[futexes_used].word = word;
	futexes[futexes_used].sleepers = rl::waitset<MODEL_THREADS>();
	return futexes[futexes_used++];
}

} // namespace memory

#endif
