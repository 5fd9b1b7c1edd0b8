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
    {"a reader does not hold its segment", "bus__log_pin", "pins", OP_STORE, SKIPPED, "DATA RACE"},
    {"a reader holds it relaxed, and looks too early", "bus__log_pin", "pins", OP_STORE, RELAXED,
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
