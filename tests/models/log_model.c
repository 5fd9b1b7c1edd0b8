#include "log_model.h"

#include <setjmp.h>
#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"

struct log model_log[LOG_MODEL_MEMBERS];
bool model_dies[LOG_MODEL_MEMBERS];

enum { BUCKETS = 2 }; /* one for the bus's own topics, and one */

struct log_topic model_topics[LOG_MODEL_MEMBERS][MODEL_TOPICS];

static struct log_shared *shared;
static struct log_place *places;
static uint8_t *bytes;
static unsigned model_deputies;
unsigned model_ended;
static bool model_reached[MODEL_THREADS]; /* the tail was this thread's */
static _Atomic bool dead[LOG_MODEL_MEMBERS];
static jmp_buf graves[LOG_MODEL_MEMBERS];

/* The kernel drops its lock after its last instruction, and a process that asks sees all its writes. */
bool
bus__log_is_alive(const struct log *log, uint32_t member)
{
	(void)log;
	return !atomic_load_explicit(&dead[member], memory_order_acquire);
}

/* The last member is a deputy of the first, of whose process it is. */
void
model_one_process(void)
{
	struct log *home = &model_log[0];

	model_share("turn", &home->turn, sizeof home->turn);
	model_share("handed", &home->handed, sizeof home->handed);
	model_share("lanes", &home->lanes, sizeof home->lanes);
	model_share("writers", home->writers, sizeof home->writers);
	model_share("known", &home->number, 3 * sizeof home->number);
	model_deputies = 1;
}

bool
model_is_inside(int thread)
{
	return model_reached[thread] ||
	       (model_reached[1 - thread] &&
		   atomic_load_explicit(&model_log[0].lanes, memory_order_relaxed) > UINT16_MAX);
}

bool
bus__log_deputy(struct log *home, unsigned lane)
{
	struct log *deputy = &model_log[LOG_MODEL_MEMBERS - 1];

	if (model_deputies == 0)
		return false;
	model_deputies--;
	deputy->home = home;
	deputy->lane = (uintptr_t)lane << 1;
	home->writers[lane] = deputy;
	return true;
}

void
bus__log_end(struct log *log)
{
	log->number = 0;
	model_ended++;
}

static void
may_die(enum log_stall where)
{
	int member = model_self();

	model_reached[member] = true;
	/* One that dies between its publish and the wake-up it owes is what the cap of a reader's sleep is for. */
	if (where == LOG_STALL_PIN || where == LOG_STALL_ASKED || where == LOG_STALL_WAKE ||
	    !model_dies[member] || model_choose(8) != 0)
		return;
	model_dies[member] = false;
	longjmp(graves[member], 1);
}

void
model_log_open_with(uint32_t segments, uint64_t segment_bytes)
{
	shared = bus__aligned(64, sizeof *shared);
	bytes = bus__aligned(64, segments * segment_bytes);
	places = bus__aligned(64, BUCKETS * LOG_BUCKET * sizeof *places);
	for (uint32_t i = 0; i < BUCKETS * LOG_BUCKET; i++) {
		model_share("tag", &places[i].tag, 8);
		model_share("kept", &places[i].kept[0], 8);
		model_share("before", &places[i].kept[1], 8);
	}
	model_share("tail", &shared->tail, sizeof shared->tail);
	model_share("news", &shared->news, sizeof shared->news);
	model_share("directory", shared->directory, sizeof shared->directory);
	model_share("firsts", shared->firsts, sizeof shared->firsts);
	model_share("pins", shared->pins, sizeof shared->pins);
	model_share("pins end", &shared->pins_end, sizeof shared->pins_end);
	model_share("members", shared->members, sizeof shared->members);
	for (uint32_t i = 0; i < segments; i++) {
		model_share("life", &shared->segments[i].life, 8);
		model_share("seal", &shared->segments[i].seal, 8);
		model_share("count", &shared->segments[i].count, 8);
		model_share("retained", &shared->segments[i].retained, 8);
		model_share("held", &shared->segments[i].held, 4);
	}
	shared->tail = tail_word(segment_bytes, 0);
	shared->pins_end = LOG_PINS;
	shared->segments[0].life = life_word(1, LIFE_OPEN);
	shared->directory[1] = 1u << 8;
	shared->firsts[1] = first_word(1, 1);
	for (uint32_t i = 0; i < LOG_MODEL_MEMBERS; i++) {
		model_log[i] = (struct log){.shared = shared,
		    .segments = bytes,
		    .places = places,
		    .buckets = BUCKETS,
		    .segment_bytes = segment_bytes,
		    .segment_count = segments,
		    .member = i,
		    .home = &model_log[i],
		    .lanes = LOG_LANES_AT_FIRST,
		    .writers = {&model_log[i]},
		    .begin = UINT64_MAX};
		bus__log_topic(&model_log[i], "t", 1, &model_topics[i][MODEL_T]);
		bus__log_topic(&model_log[i], "u", 1, &model_topics[i][MODEL_OTHER]);
		bus__log_topic(&model_log[i], "v", 1, &model_topics[i][MODEL_THIRD]);
		model_share("named", &model_topics[i][MODEL_T].named_at, 8);
		model_share("named", &model_topics[i][MODEL_OTHER].named_at, 8);
		dead[i] = model_dies[i] = false;
	}
	model_share("dead", dead, sizeof dead);
	model_deputies = model_ended = 0;
	memset(model_reached, 0, sizeof model_reached);
	bus__log_stall_hook = may_die;
}

void
model_log_open(uint32_t segments)
{
	model_log_open_with(segments, LOG_MODEL_SEGMENT);
}

void
model_pins_end(uint32_t end)
{
	atomic_init(&shared->pins_end, end);
}

void
model_refuse_pins(int member)
{
	for (uint32_t i = 0; i < model_log[0].segment_count; i++)
		atomic_init(&shared->segments[i].held, HELD_ASKED + (uint32_t)member);
}

void
model_log_close(void)
{
	bus__free(places);
	bus__free(bytes);
	bus__free(shared);
}

int
model_try_append_as(int member, int from, uint64_t i)
{
	uint64_t payload = (uint64_t)from << 32 | i, sequence;
	const struct bus_slice slice = {&payload, sizeof payload};
	const struct log_item item = {.topic = &model_topics[member][MODEL_T]};

	return bus__log_append(&model_log[member], &item, &slice, 1, &sequence);
}

static uint64_t
append_as(int member, int from, uint64_t i, uint16_t flags)
{
	uint64_t payload = (uint64_t)from << 32 | i, sequence;
	const struct bus_slice slice = {&payload, sizeof payload};
	const struct log_item item = {.topic = &model_topics[member][MODEL_T], .flags = flags};
	int got;

	do
		got = bus__log_append(&model_log[member], &item, &slice, 1, &sequence);
	while (got == BUS_E_FULL || got == BUS_E_TIMEDOUT);
	model_check(got == 1);
	return sequence;
}

static uint64_t
append(int member, uint64_t i, uint16_t flags)
{
	return append_as(member, member, i, flags);
}

void
model_append_as(int member, int from, uint64_t i)
{
	append_as(member, from, i, 0);
}

bool
model_append(int member, uint64_t i)
{
	if (setjmp(graves[member]) != 0) {
		atomic_store_explicit(&dead[member], true, memory_order_release);
		return false;
	}
	append(member, i, 0);
	return true;
}

void
model_append_to(int member, int topic)
{
	const struct bus_slice slice = {"", 0};
	const struct log_item item = {.topic = &model_topics[member][topic]};
	uint64_t sequence;
	int got;

	do
		got = bus__log_append(&model_log[member], &item, &slice, 1, &sequence);
	while (got == BUS_E_FULL);
	model_check(got == 1);
}

uint64_t
model_keep(int member, uint64_t i)
{
	return append(member, i, LOG_RETAIN);
}

uint64_t
model_keep_in(int member, int topic, uint64_t i)
{
	const struct bus_slice slice = {&i, i != 0 ? sizeof i : 0};
	const struct log_item item = {.topic = &model_topics[member][topic], .flags = LOG_RETAIN};
	uint64_t sequence;
	int got;

	do
		got = bus__log_append(&model_log[member], &item, &slice, 1, &sequence);
	while (got == BUS_E_FULL);
	model_check(got == 1 || got == BUS_E_LIMIT);
	return got == 1 ? sequence : 0;
}

void
model_read_begin(struct model_reader *reader, int member)
{
	memset(reader, 0, sizeof *reader);
	model_check(
	    bus__log_cursor_open(&model_log[member], LOG_FROM_OLDEST, 0, &reader->cursor) == 0);
	reader->sequence = 1;
}

static void
look_at_name(struct model_reader *reader, const struct log_record *record)
{
	struct log_cursor *cursor = &reader->cursor;
	uint32_t len;
	const char *name = bus__log_name(cursor, record, &len);

	model_check(name != NULL || (bus__log_copies(cursor) &&
					!bus__log_was_there(cursor->segment, cursor->number)));
	model_check(name == NULL || (len == 1 && *name == 't'));
	reader->nameless += name == NULL;
}

void
model_read(struct model_reader *reader)
{
	const struct log_record *record;

	while ((record = bus__log_next(&reader->cursor)) != NULL) {
		uint64_t lost = bus__log_lost(&reader->cursor), payload;
		struct log_view view;

		model_check(bus__log_read(reader->cursor.word, record, &view));
		model_check(view.len == 8);
		memcpy(&payload, view.data, sizeof payload);
		if (reader->names)
			look_at_name(reader, record);
		reader->sequence += lost;
		model_check(reader->cursor.sequence == reader->sequence + 1);
		reader->sequence++;
		model_check(payload >> 32 < LOG_MODEL_MEMBERS);
		model_check((payload & UINT32_MAX) >= reader->next[payload >> 32]);
		model_check((payload & UINT32_MAX) <= reader->next[payload >> 32] + lost);
		reader->next[payload >> 32] = (payload & UINT32_MAX) + 1;
		reader->seen++;
		reader->lost += lost;
	}
}

bool
model_is_dead(int member)
{
	return dead[member];
}
