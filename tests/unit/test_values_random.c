/* Several buses have the values of a model, whatever happens to them and their links. */
#define _GNU_SOURCE
#include "values_test.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#include "wrong_clock.h"
#include "base/version.h"
#include "bus/peer.h"
#include "link/session.h"
#include "log/log.h"
#include "cut.h"
#include "values_model.h"

/* --- several buses, step by step, against the model ---------------------------------------------------------------- */

struct pair_of {
	unsigned listens, dials; /* the buses */
	struct bus_link *listener, *dialler;
	struct cut wire;
};

struct world {
	struct values_model model;
	struct member {
		struct bus *bus, *beside; /* the same bus, if it is named: another opening of it */
		bool named;
		_Atomic unsigned marker[MODEL_BUSES]; /* the last marker received from each bus */
	} at[MODEL_BUSES];
	struct pair_of pairs[3];
	unsigned pair_count, step, texts;
	const struct bus_link_config *cfg;
	uint64_t dice;
};

static unsigned
roll(struct world *w, unsigned sides)
{
	w->dice = w->dice * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)((w->dice >> 33) % sides);
}

/* Whether all are linked, so that they must agree. */
static bool
is_whole(const struct values_model *m)
{
	for (unsigned left = 0; left < m->buses; left++)
		for (unsigned right = 0; right < left; right++)
			if (!m->linked[left][right])
				return false;
	return true;
}

/* With $BUS_TEST_TRACE: the steps before a difference. */
static void
trace(const struct world *w, const char *format, ...)
{
	va_list args;

	if (getenv("BUS_TEST_TRACE") == NULL)
		return;
	fprintf(stderr, "%u: ", w->step);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void
hear_marker(void *arg, const struct bus_msg *msg)
{
	struct member *member = arg;

	if (strncmp(msg->topic, "v/marker/", 9) == 0)
		member->marker[msg->topic[9] - '0'] = *(const unsigned *)msg->data;
}

static void
open_member(struct world *w, unsigned i)
{
	const struct bus_config in = {
	    .size = sizeof in, .dir = bus_test_dir(), .log_bytes = LOG_BYTES_LEAST};
	const char *const names[] = {"a", "b", "c"};
	struct member *member = &w->at[i];

	if (member->named) {
		ck_bus(bus_open(names[i], &in, &member->bus), 0);
		ck_bus(bus_open(names[i], &in, &member->beside), 0);
	} else {
		member->bus = member->beside = open_bus();
	}
	ck_bus(bus_subscribe(member->bus, "v/#", hear_marker, member, NULL), 0);
}

static void
close_member(struct world *w, unsigned i)
{
	struct member *member = &w->at[i];

	if (member->named)
		ck_assert_int_ge(bus_close(member->beside, 5000), 0);
	ck_assert_int_ge(bus_close(member->bus, 5000), 0);
}

static void
link_pair(struct world *w, struct pair_of *pair)
{
	ck_bus(bus_dial(w->at[pair->dials].bus, pair->wire.url, w->cfg, &pair->dialler), 0);
	ck_eventually(is_up(pair->dialler) && stats_of(pair->listener).peers == 1);
	model_link(&w->model, pair->listens, pair->dials, true, false);
}

static void
open_world(struct world *w, uint64_t seed, const struct bus_link_config *cfg)
{
	w->cfg = cfg;
	w->dice = seed;
	w->model.buses = 2 + roll(w, 2);
	for (unsigned i = 0; i < w->model.buses; i++) {
		w->at[i].named = roll(w, 2);
		open_member(w, i);
		model_restart(&w->model, i, bus__id(w->at[i].bus));
	}
	for (unsigned dials = 1; dials < w->model.buses; dials++)
		for (unsigned listens = 0; listens < dials; listens++) {
			struct pair_of *pair = &w->pairs[w->pair_count++];
			char url[256];

			pair->listens = listens;
			pair->dials = dials;
			/* A named bus listens at an address once. */
			ck_bus(bus_listen(w->at[listens].bus,
				   dials == 1 ? "tcp://127.0.0.1:0" : "tcp://localhost:0", w->cfg,
				   &pair->listener),
			    0);
			ck_assert_int_gt(bus_link_url(pair->listener, url, sizeof url), 0);
			cut_open(&pair->wire, url);
			link_pair(w, pair);
		}
}

static void
close_world(struct world *w)
{
	for (unsigned i = 0; i < w->pair_count; i++) {
		bus_link_close(w->pairs[i].dialler);
		bus_link_close(w->pairs[i].listener);
	}
	for (unsigned i = 0; i < w->model.buses; i++)
		close_member(w, i);
	for (unsigned i = 0; i < w->pair_count; i++)
		cut_close(&w->pairs[i].wire);
}

/* Waits until every bus has the others' values: they precede a message that is published after them. */
static void
settle_once(struct world *w)
{
	char topic[16];

	w->step++;
	for (unsigned i = 0; i < w->model.buses; i++) {
		ck_bus(bus_flush(w->at[i].bus, patience_ms()), 0);
		snprintf(topic, sizeof topic, "v/marker/%u", i);
		ck_bus(bus_publish(w->at[i].bus, topic, &w->step, sizeof w->step), 0);
	}
	for (unsigned to = 0; to < w->model.buses; to++)
		for (unsigned from = 0; from < w->model.buses; from++)
			if (from == to || w->model.linked[from][to])
				ck_eventually(w->at[to].marker[from] == w->step);
}

/* A change gets another number, its maker learns that, tells all, and one of them makes the next. */
static void
settle(struct world *w)
{
	for (unsigned round = 0; round < 4; round++)
		settle_once(w);
}

static bool
agree(struct world *w)
{
	for (unsigned i = 1; i < w->model.buses; i++)
		for (unsigned t = 0; t < MODEL_TOPICS; t++)
			if (strcmp(w->model.at[i][t].text, w->model.at[0][t].text) != 0)
				return false;
	return true;
}

static void
compare(struct world *w, uint64_t seed)
{
	char topic[16];

	settle(w);
	for (unsigned i = 0; i < w->model.buses; i++)
		for (unsigned t = 0; t < MODEL_TOPICS; t++) {
			const char *got;

			snprintf(topic, sizeof topic, "v/%u", t);
			got = value_of(w->at[i].beside, topic);
			ck_assert_msg(strcmp(got, w->model.at[i][t].text) == 0,
			    "seed %" PRIu64 ", step %u: bus %u (%s) has \"%s\" on %s, not \"%s\"",
			    seed, w->step, i, w->at[i].named ? "named" : "private", got, topic,
			    w->model.at[i][t].text);
		}
	ck_assert_msg(!is_whole(&w->model) || agree(w),
	    "seed %" PRIu64 ", step %u: all are linked and do not agree", seed, w->step);
}

static void
publish_on(struct world *w, unsigned bus, unsigned t)
{
	char topic[16], text[MODEL_TEXT] = "";

	if (roll(w, 4) != 0)
		snprintf(text, sizeof text, "%u of bus %u", ++w->texts, bus);
	snprintf(topic, sizeof topic, "v/%u", t);
	wrong_by_s = ((int64_t)roll(w, 49) - 24) * HOUR_S;
	trace(w, "bus %u publishes \"%s\" on %s", bus, text, topic);
	retain_text(roll(w, 2) ? w->at[bus].bus : w->at[bus].beside, topic, text);
	model_publish(&w->model, bus, t, text);
}

static void
publish_at(struct world *w, unsigned bus)
{
	publish_on(w, bus, roll(w, MODEL_TOPICS));
}

static void
publish(struct world *w)
{
	publish_at(w, roll(w, w->model.buses));
}

/* Breaks a link, or closes it; or restores a broken one. */
static void
change_link(struct world *w)
{
	struct pair_of *pair = &w->pairs[roll(w, w->pair_count)];

	trace(w, "link of %u and %u: %s, %s", pair->listens, pair->dials,
	    pair->dialler == NULL ? "closed" : "dials", pair->wire.is_cut ? "cut" : "whole");
	if (pair->dialler == NULL) {
		link_pair(w, pair);
		return;
	}
	if (pair->wire.is_cut) {
		pair->wire.is_cut = false;
		ck_eventually(is_up(pair->dialler) && stats_of(pair->listener).peers == 1);
		model_link(&w->model, pair->listens, pair->dials, true, false);
		return;
	}
	if (roll(w, 2)) {
		pair->wire.is_cut = true;
	} else {
		bus_link_close(pair->dialler);
		pair->dialler = NULL;
	}
	ck_eventually((pair->dialler == NULL || !is_up(pair->dialler)) &&
		      stats_of(pair->listener).peers == 0);
	model_link(&w->model, pair->listens, pair->dials, false, false);
}

/* Holds the messages between two buses while both publish, never twice on a topic, so that their messages cross. With a third bus
 * the result would depend on the order of arrival; then they only agree, as the next test shows. */
static void
hold(struct world *w, uint64_t seed)
{
	struct pair_of *pair = &w->pairs[roll(w, w->pair_count)];

	if (!is_whole(&w->model) || w->model.buses > 2)
		return;
	trace(w, "holds %u and %u", pair->listens, pair->dials);
	pair->wire.held = true;
	/* The bytes that the forwarder has begun to pass on. */
	for (unsigned n = 0; n < 20; n++)
		bus_test_nap();
	model_link(&w->model, pair->listens, pair->dials, false, false);
	for (unsigned t = 0; t < MODEL_TOPICS; t++) {
		unsigned who = roll(w, 4);

		if (who & 1)
			publish_on(w, pair->listens, t);
		if (who & 2)
			publish_on(w, pair->dials, t);
		compare(w, seed);
	}
	pair->wire.held = false;
	model_link(&w->model, pair->listens, pair->dials, true, true);
}

/* Restarts the last bus, which dials all others. */
static void
restart(struct world *w)
{
	unsigned last = w->model.buses - 1;

	if (!is_whole(&w->model))
		return;
	for (unsigned i = 0; i < w->pair_count; i++)
		if (w->pairs[i].dials == last) {
			bus_link_close(w->pairs[i].dialler);
			ck_eventually(stats_of(w->pairs[i].listener).peers == 0);
		}
	trace(w, "bus %u begins anew", last);
	close_member(w, last);
	open_member(w, last);
	model_restart(&w->model, last, bus__id(w->at[last].bus));
	for (unsigned n = roll(w, 3); n > 0; n--)
		publish_at(w, last);
	for (unsigned i = 0; i < w->pair_count; i++)
		if (w->pairs[i].dials == last)
			link_pair(w, &w->pairs[i]);
}

static uint64_t
number_of(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(buses_have_the_values_of_the_model_whatever_happens)
{
	uint64_t seed = number_of("BUS_TEST_SEED", 1) + (uint64_t)_i;
	unsigned steps = (unsigned)number_of("BUS_TEST_STEPS", 60);
	struct world *w = calloc(1, sizeof *w);

	bus__repair_ns = 0;
	open_world(w, seed * UINT64_C(0x9E3779B97F4A7C15), &patient);
	for (unsigned i = 0; i < steps; i++) {
		unsigned what = roll(w, 20);

		if (what < 13)
			publish(w);
		else if (what < 18)
			change_link(w);
		else if (what < 19)
			hold(w, seed);
		else
			restart(w);
		compare(w, seed);
	}
	for (unsigned i = 0; i < w->pair_count; i++)
		while (!w->model.linked[w->pairs[i].listens][w->pairs[i].dials])
			change_link(w);
	compare(w, seed);
	bus__repair_ns = INT64_C(1000000000);
	close_world(w);
	free(w);
}
END_TEST

/* --- all at once ----------------------------------------------------------------------------------------------------- */

struct writer {
	struct bus *bus;
	uint64_t seed;
	unsigned count, number;
	_Atomic bool done;
};

static void *
write_at_random(void *arg)
{
	struct writer *writer = arg;
	struct world dice = {.dice = writer->seed};
	char topic[16], text[32];

	for (unsigned i = 0; i < writer->count; i++) {
		snprintf(topic, sizeof topic, "v/%u", roll(&dice, TOPICS));
		snprintf(text, sizeof text, "%u of writer %u", i, writer->number);
		retain_text(writer->bus, topic, roll(&dice, 5) ? text : "");
		if (roll(&dice, 32) == 0)
			bus_test_nap();
	}
	writer->done = true;
	return NULL;
}

/* Whether all have the same values. */
static bool
all_agree(struct world *w)
{
	char topic[16], text[256];

	for (unsigned t = 0; t < TOPICS; t++) {
		snprintf(topic, sizeof topic, "v/%u", t);
		snprintf(text, sizeof text, "%s", value_of(w->at[0].beside, topic));
		for (unsigned i = 1; i < w->model.buses; i++)
			if (!has(w->at[i].beside, topic, text)) {
				trace(w, "%s: bus 0 \"%s\", bus %u \"%s\"", topic, text, i,
				    value_of(w->at[i].beside, topic));
				return false;
			}
	}
	return true;
}

START_TEST(buses_agree_in_the_end_however_writers_links_and_full_mailboxes_meet)
{
	uint64_t seed = number_of("BUS_TEST_SEED", 1) + (uint64_t)_i;
	unsigned each = (unsigned)number_of("BUS_TEST_STEPS", 60) * 50;
	struct writer writers[2 * MODEL_BUSES];
	struct world *w = calloc(1, sizeof *w);
	pthread_t threads[2 * MODEL_BUSES];
	unsigned count, done;

	open_world(w, ~seed * UINT64_C(0x9E3779B97F4A7C15), &narrow);
	count = 2 * w->model.buses;
	for (unsigned i = 0; i < count; i++) {
		struct member *member = &w->at[i / 2];

		writers[i] = (struct writer){.bus = i % 2 ? member->bus : member->beside,
		    .seed = seed * 16 + i,
		    .count = each,
		    .number = i};
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, write_at_random, &writers[i]), 0);
	}
	do {
		struct cut *wire = &w->pairs[roll(w, w->pair_count)].wire;

		switch (roll(w, 4)) {
		case 0:
			wire->is_cut = true;
			break;
		case 1:
			wire->held = !wire->held;
			break;
		default:
			wire->is_cut = false;
		}
		for (unsigned n = roll(w, 20); n > 0; n--)
			bus_test_nap();
		done = 0;
		for (unsigned i = 0; i < count; i++)
			done += writers[i].done;
	} while (done < count);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < w->pair_count; i++)
		w->pairs[i].wire.is_cut = w->pairs[i].wire.held = false;
	for (unsigned i = 0; i < w->pair_count; i++)
		ck_eventually(
		    is_up(w->pairs[i].dialler) && stats_of(w->pairs[i].listener).peers == 1);
	ck_eventually(all_agree(w));
	close_world(w);
	free(w);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("values at random");
	TCase *at_random = bus_test_case("at random");
	int rounds = (int)number_of("BUS_TEST_ROUNDS", 6);

	tcase_set_timeout(at_random, bus_test_limit() * (rounds > 6 ? 60 : 1));
	tcase_add_loop_test(
	    at_random, buses_have_the_values_of_the_model_whatever_happens, 0, rounds);
	tcase_add_loop_test(at_random,
	    buses_agree_in_the_end_however_writers_links_and_full_mailboxes_meet, 0, rounds);
	suite_add_tcase(suite, at_random);
	return suite;
}
