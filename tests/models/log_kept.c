/* Two writers that keep values in one topic and publish other things until memory is used again, so that values are carried
 * along; each may be revoked at every step, and goes on later in the middle of what it did. */
#include "log_model.h"

#include <string.h>

enum { SEGMENTS = 4, EACH = 5 };

/* The newest value that each has published: its place in the order, and what it was. */
static uint64_t newest[2], value[2];

static void
before(void)
{
	model_log_open(SEGMENTS);
	memset(newest, 0, sizeof newest);
}

static void
thread(int index)
{
	model_pause(60);
	for (uint64_t i = 0; i < EACH; i++) {
		if (i == 0) {
			value[index] = (uint64_t)index << 32 | i;
			newest[index] = model_keep(index, i);
		}
		model_check(model_append(index, i));
	}
}

static void
after(void)
{
	uint64_t expected = value[newest[1] > newest[0]], found = 0;
	const struct log_record *record;
	struct log_cursor cursor;
	struct log_view view;

	model_check(bus__log_cursor_open(&model_log[2], LOG_FROM_NOW, 0, &cursor) == 0);
	record = bus__log_kept(&cursor, &model_topics[2][MODEL_T], bus__log_position(&cursor));
	model_check(record != NULL && bus__log_read(cursor.word, record, &view));
	model_check(view.len == sizeof found);
	memcpy(&found, view.data, sizeof found);
	model_check(found == expected);
	bus__log_cursor_close(&cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"a late note replaces a newer one", "note", "kept", OP_CAS, BLIND, ""},
    {"a segment does not say that it has values", "mark", "retained", OP_CAS, SKIPPED, ""},
    {NULL},
};

const struct model model_log_kept = {
    .name = "log_kept",
    .shows =
	"the value that was published last is found, also when it was carried along or its writer's successor is late",
    .threads = 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
