/* Two writers, of which the first may die at any step that has a name; the other and the reader go on. */
#include "log_model.h"

enum { EACH = 3 };

static struct model_reader reader;

static void
before(void)
{
	model_log_open(8);
	model_read_begin(&reader, 2);
	model_dies[0] = true;
}

static void
thread(int index)
{
	if (index < 2) {
		for (uint64_t i = 0; i < EACH && model_append(index, i); i++)
			;
		return;
	}
	while (reader.next[1] < EACH) {
		model_read(&reader);
		if (reader.next[1] < EACH)
			bus__log_await(&reader.cursor, INT64_MAX);
	}
}

static void
after(void)
{
	model_read(&reader);
	model_check(reader.lost == 0 && reader.next[1] == EACH);
	model_check(model_is_dead(0) || reader.next[0] == EACH);
	bus__log_cursor_close(&reader.cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"memory is not marked as claimed", "claim_oldest", "life", OP_CAS, SKIPPED, ""},
    {"the directory is not written", "bus__log_prepare_next", "directory", OP_CAS, SKIPPED, ""},
    {"the first sequence is not written", "note_first", "firsts", OP_CAS, SKIPPED, ""},
    {"a claimed segment is not opened", "open_next", "life", OP_CAS, SKIPPED, ""},
    {NULL},
};

const struct model model_log_dead = {
    .name = "log_dead",
    .shows = "a writer that dies at any step is replaced, and leaves a whole record or none",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
