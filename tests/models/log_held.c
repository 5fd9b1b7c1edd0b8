/* Three processes pin segments of their own, and let go, in a log of which readers may hold one place: never two at once. */
#include "log_model.h"

#include <string.h>

enum { SEGMENTS = 4, MOST = 1, ROUNDS = 3 };

static unsigned holders[LOG_MOST_SEGMENTS]; /* no other thread runs between a pin and this */

static void
before(void)
{
	model_log_open(SEGMENTS);
	for (uint64_t i = 0; i < 6; i++)
		model_append(0, i);
	for (uint32_t i = 0; i < LOG_MOST_SEGMENTS; i++)
		holders[i] = 0;
	model_check(bus__log_most_pinned(&model_log[0]) == MOST);
}

static unsigned
places_held(void)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < LOG_MOST_SEGMENTS; i++)
		count += holders[i] > 0;
	return count;
}

static void
thread(int index)
{
	struct log *log = &model_log[index];
	uint32_t pin = 0;

	for (int i = 0; i < ROUNDS; i++) {
		const uint8_t *bytes;

		model_pause(20);
		/* A refused one asks again: it has come to another segment. */
		memset(log->refused, 0, sizeof log->refused);
		model_check(bus__log_pin(log, &pin, 1 + model_choose(3), &bytes) != NULL);
		if (pin == 0)
			continue;
		holders[pin - 1]++;
		model_check(places_held() <= MOST);
		model_pause(100);
		holders[pin - 1]--;
		bus__log_unpin(log, &pin);
	}
}

static void
after(void)
{
	model_log_close();
}

static const struct control controls[] = {
    {"a pin is not stored", "pin_first", "pins", OP_STORE, SKIPPED, ""},
    {"a pin is stored behind the look", "pin_first", "pins", OP_STORE, RELAXED, ""},
    {"a reader asks relaxed", "admit", "held", OP_CAS, RELAXED, ""},
    {"a reader counts relaxed what others ask for", "places_held", "held", OP_LOAD, RELAXED, ""},
    {"a reader counts pins relaxed", "places_held", "pins", OP_LOAD, RELAXED, ""},
    {NULL},
};

const struct model model_log_held = {
    .name = "log_held",
    .shows = "readers of all processes hold no more places than they may",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 20000,
    .controls = controls,
};
