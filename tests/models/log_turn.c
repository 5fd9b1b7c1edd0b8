/* Three threads append, two of them of one process. Who waits for the turn of that process takes it from its holder, who lives:
 * so a thread is replaced at every step, and goes on later in the middle of what it did, with a lane of its own. Who waits for
 * the tail takes it from its owner, of this process or of the other.
 *
 * log_leaves: a process leaves its log while a thread of it appends and another waits. */
#include "log/turn.h"

#include <libbus/error.h>

#include "log_model.h"

enum { EACH = 2, THREADS = 3 };

static struct model_reader reader;

static void
before(void)
{
	model_log_open(8);
	model_one_process();
}

static void
thread(int index)
{
	model_pause(60);
	for (uint64_t i = 0; i < EACH; i++)
		model_append_as(index == 2, index, i);
}

static void
after(void)
{
	model_read_begin(&reader, 1);
	model_read(&reader);
	model_check(reader.seen == THREADS * EACH && reader.lost == 0);
	model_check(bus__log_end_turns(&model_log[0]) && model_ended == 0);
	bus__log_cursor_close(&reader.cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"the turn is given back without a look whether it is still held", "bus__log_leave", "turn",
	OP_CAS, BLIND, ""},
    {"a thread enters without a look whether the turn is free", "bus__log_enter", "turn", OP_CAS,
	BLIND, ""},
    {"the turn is given free relaxed", "bus__log_leave", "turn", OP_CAS, RELAXED, ""},
    {"the turn is taken without a look at its holder", "replace", "turn", OP_CAS, BLIND, ""},
    {"a lane is returned relaxed", "change", "lanes", OP_RMW, RELAXED, ""},
    {NULL},
};

const struct model model_log_turn = {
    .name = "log_turn",
    .shows =
	"a thread that is replaced in its process at any step loses nothing and repeats nothing",
    .threads = THREADS,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};

static _Atomic bool done[2];

static void
before_leaving(void)
{
	before();
	done[0] = done[1] = false;
	model_share("done", done, sizeof done);
}

/* Whether both threads are inside or through: a call that begins behind the end is a mistake of the program's. */
static bool
have_begun(void)
{
	for (int i = 0; i < 2; i++)
		if (!atomic_load_explicit(&done[i], memory_order_acquire) && !model_is_inside(i))
			return false;
	return true;
}

static void
leave(int index)
{
	struct log *home = &model_log[0];

	if (index < 2) {
		int got = model_try_append_as(0, index, 0);

		model_check(got == 1 || got == BUS_E_CLOSED || got == BUS_E_TIMEDOUT);
		atomic_store_explicit(&done[index], true, memory_order_release);
		return;
	}
	while (!have_begun())
		model_pause(4);
	if (bus__log_end_turns(home))
		bus__log_end(home);
}

/* The model of the end writes to what threads inside know, so one that is not out is a race. */
static void
after_leaving(void)
{
	model_check(model_ended == 1);
	model_log_close();
}

static const struct control leaves_controls[] = {
    {"the end does not wait for the thread that is inside", "bus__log_end_turns", "turn", OP_RMW,
	BLIND, ""},
    {"what a thread did is not seen by the end", "change", "lanes", OP_RMW, RELAXED, ""},
    {"the turn is given free relaxed", "bus__log_leave", "turn", OP_CAS, RELAXED, ""},
    {NULL},
};

const struct model model_log_leaves = {
    .name = "log_leaves",
    .shows = "the last thread that comes out ends a log that its process has left, and none before",
    .threads = THREADS,
    .before = before_leaving,
    .thread = leave,
    .after = after_leaving,
    .schedules = 20000,
    .controls = leaves_controls,
};
