/* A writer goes round three segments beside a reader that gets no pin: what it believes of what it copied was there, also of a
 * name that lies before its copy, and what went by is counted. */
#include "log_model.h"

enum { ALL = 9 };

static struct model_reader reader;

static void
before(void)
{
	model_log_open(3);
	model_refuse_pins(2);
	model_read_begin(&reader, 1);
	reader.names = true;
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
		model_check(reader.cursor.pin == 0);
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
    {"the second look changes nothing", "bus__log_was_there", "life", OP_CAS, SKIPPED, "DATA RACE"},
    {"the second look is relaxed", "bus__log_was_there", "life", OP_CAS, RELAXED, "DATA RACE"},
    {NULL},
};

const struct model model_log_copied = {
    .name = "log_copied",
    .shows = "what a reader without a pin believes of its copy was there all the time",
    .threads = 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
