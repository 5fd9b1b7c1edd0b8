/* Two topics that share the only place of a bucket that is not a third's. Its value has ended, and two writers want it; either may be revoked
 * at every step, and goes on later in the middle of what it did. */
#include "log_model.h"

#include <string.h>

enum { SEGMENTS = 8, FIRST = 1, MINE = 2 };

static uint64_t newest[MODEL_TOPICS]; /* the sequence of its value, 0: it has none */

static void
before(void)
{
	model_log_open(SEGMENTS);
	memset(newest, 0, sizeof newest);
	model_check(model_keep_in(2, MODEL_THIRD, FIRST) != 0);
	model_check(model_keep_in(2, MODEL_T, FIRST) != 0);
	model_check(model_keep_in(2, MODEL_T, 0) != 0);
}

static void
thread(int index)
{
	model_pause(60);
	newest[index] = model_keep_in(index, index, MINE);
	/* What has the place can be changed and ended. */
	if (newest[index] != 0 && model_choose(2) == 0) {
		model_check(model_keep_in(index, index, 0) != 0);
		newest[index] = 0;
	}
}

static bool
has_value(int topic)
{
	const struct log_record *record;
	struct log_cursor cursor;
	struct log_view view;
	uint64_t value = 0;

	model_check(bus__log_cursor_open(&model_log[2], LOG_FROM_NOW, 0, &cursor) == 0);
	record = bus__log_kept(&cursor, &model_topics[2][topic], bus__log_position(&cursor));
	if (record != NULL) {
		model_check(bus__log_read(cursor.word, record, &view));
		if (view.len == sizeof value)
			memcpy(&value, view.data, sizeof value);
	}
	bus__log_cursor_close(&cursor);
	model_check(value == 0 || value == (topic == MODEL_THIRD ? FIRST : MINE));
	return value != 0;
}

static void
after(void)
{
	model_check(newest[MODEL_T] == 0 || newest[MODEL_OTHER] == 0);
	model_check(has_value(MODEL_THIRD));
	model_check(has_value(MODEL_T) == (newest[MODEL_T] != 0));
	model_check(has_value(MODEL_OTHER) == (newest[MODEL_OTHER] != 0));
	model_log_close();
}

static const struct control controls[] = {
    {"a place is taken though it was written to since", "bus__log_take_place", "tag", OP_CAS, BLIND,
	""},
    {"the value before is forgotten", "bus__log_raise_before", "before", OP_CAS, SKIPPED, ""},
    {NULL},
};

const struct model model_log_reused = {
    .name = "log_reused",
    .shows = "a place of the index that is free is one topic's, and no late writer takes it away",
    .threads = 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
