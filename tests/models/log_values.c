/* Two members change one topic's value, each by itself and as a peer's change that a link brought; either may be revoked at every
 * step. */
#include "log_model.h"

#include <string.h>

#include <libbus/error.h>

enum { SEGMENTS = 5, SEGMENT = 88 /* a value with a version */, EACH = 2, PEERS_MOST = 3 };

static void
before(void)
{
	model_log_open_with(SEGMENTS, SEGMENT);
}

static void
change(int member, struct bus__offer *offer, uint64_t i)
{
	const struct bus_slice slice = {&i, sizeof i};
	const struct log_item item = {.topic = &model_topics[member][MODEL_T], .flags = LOG_RETAIN};
	struct bus__version ours;
	uint64_t sequence;
	int got;

	/* LIMIT: for a moment one that was revoked claims the memory of the value that this one replaces. */
	do
		got = bus__log_append_value(
		    &model_log[member], &item, offer, &slice, &sequence, &ours);
	while (got == BUS_E_FULL || got == BUS_E_LIMIT);
	model_check(got == 1 || (offer != NULL && got == 0));
}

static void
thread(int index)
{
	struct bus__offer offer = {.version = {.bus = {1}}, .peer = {1}, .is_kept = true};

	model_pause(60);
	for (uint64_t i = 0; i < EACH; i++) {
		change(index, NULL, i);
		offer.version.changes = i + (uint64_t)index + 1;
		if (offer.version.changes <= PEERS_MOST)
			change(index, &offer, i);
	}
}

static void
after(void)
{
	const struct log_record *record;
	struct bus__version version;
	struct log_cursor cursor;

	model_check(bus__log_cursor_open(&model_log[2], LOG_FROM_NOW, 0, &cursor) == 0);
	record = bus__log_kept(&cursor, &model_topics[2][MODEL_T], bus__log_position(&cursor));
	model_check(record != NULL);
	model_check(bus__log_value_of(&model_log[2], cursor.word, record, &version) == LOG_A_VALUE);
	/* Each change that was made here counted those before it. */
	model_check(version.changes >= 2 * EACH);
	bus__log_cursor_close(&cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"a segment is not sealed before its writer is revoked", "seal", "seal", OP_CAS, SKIPPED, ""},
    {"a publish does not order what it shows", "bus__log_move_tail", "tail", OP_CAS, RELAXED, ""},
    {"an owner does not hold what it compares", "pin_first", "pins", OP_STORE, SKIPPED, ""},
    {NULL},
};

const struct model model_log_values = {
    .name = "log_values",
    .shows = "a version is compared and given in one step with the append",
    .threads = 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 4000,
    .controls = controls,
};
