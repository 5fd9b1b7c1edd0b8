/* Two writers, each on two topics, and memory that is used again; either may be revoked at every step, and goes on later in the
 * middle of what it did. A reader finds for each record the name that its writer used. */
#include "log_model.h"

#include <string.h>

enum { SEGMENTS = 4, EACH = 4 };

static struct log_cursor cursor;
static uint64_t seen, lost;

static void
before(void)
{
	model_log_open(SEGMENTS);
	seen = lost = 0;
	model_check(bus__log_cursor_open(&model_log[2], LOG_FROM_OLDEST, 0, &cursor) == 0);
}

/* As if a place in a segment before were one in this. */
static void
take_for_this_segment(int member)
{
	const struct log *log = &model_log[member];

	for (int i = 0; i < MODEL_TOPICS; i++) {
		_Atomic uint64_t *at = &model_topics[member][i].named_at;
		uint64_t position = atomic_load_explicit(at, memory_order_relaxed);

		if (position != 0)
			atomic_store_explicit(at,
			    bus__log_tail(log) / log->segment_bytes * log->segment_bytes +
				position % log->segment_bytes,
			    memory_order_relaxed);
	}
}

static void
publish(int member, int topic)
{
	const uint64_t payload = (uint64_t)topic;
	const struct bus_slice slice = {&payload, sizeof payload};
	const struct log_item item = {.topic = &model_topics[member][topic]};
	uint64_t sequence;

	model_check(bus__log_append(&model_log[member], &item, &slice, 1, &sequence) == 1);
}

static void
read_on(void)
{
	const struct log_record *record;

	while ((record = bus__log_next(&cursor)) != NULL) {
		struct log_view view;
		const char *name;
		uint64_t payload;
		uint32_t len;

		name = bus__log_name(&cursor, record, &len);
		model_check(name != NULL && len == 1);
		model_check(bus__log_read(cursor.word, record, &view) && view.len == 8);
		memcpy(&payload, view.data, sizeof payload);
		model_check(*name == (payload == MODEL_T ? 't' : 'u'));
		seen++;
		lost += bus__log_lost(&cursor);
	}
}

static void
thread(int index)
{
	model_pause(60);
	if (index == 2) {
		for (int i = 0; i < 3; i++) {
			read_on();
			bus__log_let_go(&cursor);
			model_pause(200);
		}
		return;
	}
	for (int i = 0; i < EACH; i++) {
		if (model_spoils("a place in another segment"))
			take_for_this_segment(index);
		publish(index, i % 3 == 1 ? MODEL_OTHER : MODEL_T);
	}
}

static void
after(void)
{
	read_on();
	model_check(seen + lost == 2 * EACH);
	bus__log_cursor_close(&cursor);
	model_log_close();
}

static const struct control controls[] = {
    {"where the name is is not compared with the segment", NULL, "a place in another segment",
	OP_ANY, PLANTED, ""},
    {"a segment is not sealed before its writer is revoked", "seal", "seal", OP_CAS, SKIPPED, ""},
    {"a publish does not order what it shows", "bus__log_move_tail", "tail", OP_CAS, RELAXED, ""},
    {"a reader does not hold the record with the name", "pin_first", "pins", OP_STORE, SKIPPED,
	"DATA RACE"},
    {NULL},
};

const struct model model_log_named = {
    .name = "log_named",
    .shows =
	"each record has the name that its writer used, in whatever segment, also if one was revoked",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
