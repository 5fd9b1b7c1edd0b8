/* A writer goes round three segments while a reader is under way: what it reads is not written over, and what went by
 * is counted. */
#include "log_model.h"

enum { ALL = 9 };

static struct model_reader reader;

static void
before(void)
{
	model_log_open(3);
	model_read_begin(&reader, 1);
}

static void
thread(int index)
{
	if (index == 0) {
		for (uint64_t i = 0; i < ALL; i++)
			model_check(model_append(0, i));
		return;
	}
	for (int i = 0; i < 4; i++) {
		model_pause(200);
		model_read(&reader);
	}
}

static void
after(void)
{
	model_read(&reader);
	model_check(reader.seen + reader.lost == ALL);
	bus__log_cursor_close(&reader.cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"a reader does not hold its segment", "pin_first", "pins", OP_STORE, SKIPPED, "DATA RACE"},
    {"a reader holds it relaxed, and looks too early", "pin_first", "pins", OP_STORE, RELAXED,
	"DATA RACE"},
    {"a writer claims relaxed", "claim_oldest", "life", OP_CAS, RELAXED, "DATA RACE"},
    {NULL},
};

const struct model model_log_lapped = {
    .name = "log_lapped",
    .shows = "what a reader holds is not written over, and what went by is counted",
    .threads = 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};

/* --- the same with a process that joins during the claim, whose pins were not read yet --------------------------------- */

static void
before_joins(void)
{
	model_log_open(3);
	model_pins_end(0);
}

static void
thread_joins(int index)
{
	if (index == 0) {
		for (uint64_t i = 0; i < ALL; i++)
			model_check(model_append(0, i));
		return;
	}
	model_pause(200);
	bus__log_recover(&model_log[1], 1);
	model_read_begin(&reader, 1);
	reader.sequence = reader.cursor.sequence;
	reader.next[0] = reader.sequence - 1;
	for (int i = 0; i < 4; i++) {
		model_read(&reader);
		model_pause(100);
	}
}

static void
after_joins(void)
{
	model_read(&reader);
	model_check(reader.next[0] == ALL);
	bus__log_cursor_close(&reader.cursor);
	model_log_close();
}

static const struct control controls_joins[] = {
    {"a process that joins does not say so", "bus__log_recover", "pins end", OP_CAS, SKIPPED,
	"DATA RACE"},
    {"a writer looks relaxed how many there are", "is_pinned", "pins end", OP_LOAD, RELAXED,
	"DATA RACE"},
    {NULL},
};

const struct model model_log_joins = {
    .name = "log_joins",
    .shows = "what a process holds that joins while a writer rolls is not written over",
    .threads = 2,
    .before = before_joins,
    .thread = thread_joins,
    .after = after_joins,
    .schedules = 20000,
    .controls = controls_joins,
};
