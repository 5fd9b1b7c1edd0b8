/* Two writers and a reader that sleeps. Whoever waits for his turn takes the tail from its owner, who lives: so a writer is
 * revoked at every step, and goes on later in the middle of what it did. */
#include "log_model.h"

enum { EACH = 2, ALL = 2 * EACH };

static struct model_reader reader;

static void
before(void)
{
	model_log_open(8);
	model_read_begin(&reader, 2);
}

static void
thread(int index)
{
	if (index < 2) {
		model_pause(60);
		for (uint64_t i = 0; i < EACH; i++)
			model_check(model_append(index, i));
		return;
	}
	for (;;) {
		model_read(&reader);
		if (reader.seen + reader.lost >= ALL)
			break;
		bus__log_await(&reader.cursor, INT64_MAX);
	}
}

static void
after(void)
{
	model_read(&reader);
	model_check(reader.seen == ALL && reader.lost == 0);
	bus__log_cursor_close(&reader.cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"records are shown relaxed", "bus__log_move_tail", "tail", OP_CAS, RELAXED, ""},
    {"a publish does not look whether the tail is still its own", "bus__log_move_tail", "tail",
	OP_CAS, BLIND, ""},
    {"the segment is not sealed before it is taken", "seal", "seal", OP_CAS, SKIPPED, ""},
    {"a segment gets no end", "end_segment", "life", OP_CAS, SKIPPED, ""},
    {"the reader sleeps without looking", "bus__log_ask", "tail", OP_CAS, BLIND, ""},
    {"the futex word does not change", "bus__log_wake", "news", OP_RMW, SKIPPED, "DEADLOCK"},
    {NULL},
};

const struct model model_log_stopped = {
    .name = "log_stopped",
    .shows =
	"a writer that is revoked at any step loses nothing and repeats nothing; no reader sleeps on a record",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
