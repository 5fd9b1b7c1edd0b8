/* What comes and goes under traffic: subscriptions, mailboxes, receivers of a group, threads, and the bus itself. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

enum {
	CHANGERS = 2,
	AT_ONCE = 4, /* short-lived threads */
	LIVES = 1000
};

/* A bus, a mailbox that is there all the time, and what happened to its messages. */
struct place {
	struct bus *bus;
	struct bus_mailbox *mbox;
	_Atomic uint64_t heard;
	bool goes; /* before all are through: then they have only what outlives it */
	_Atomic bool over;
};

static void
hear(void *arg, const struct bus_msg *msg)
{
	struct place *place = arg;

	(void)msg;
	place->heard++;
}

static void
place_open(struct place *place)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .drain = BUS_DRAIN_THREAD, .bytes = 16384};

	memset(place, 0, sizeof *place);
	must(bus_open(NULL, NULL, &place->bus) == 0);
	must(bus_mailbox_open(place->bus, &cfg, &place->mbox) == 0);
	must(bus_mailbox_subscribe(place->mbox, "#", hear, place, NULL) == 0);
}

/* Ends it, and checks that the mailbox was offered all that publishers were told is accepted. */
static void
place_close(struct place *place, uint64_t accepted, struct round *round)
{
	struct bus_stats stats;

	must(bus_close(place->bus, stress_patience_ms()) >= 0);
	stats = traffic_stats(place->mbox);
	must_eq(stats.offered, accepted);
	must_eq(stats.delivered, place->heard);
	must_eq(stats.pending, 0);
	bus_mailbox_close(place->mbox);
	round->delivered = stats.delivered;
	round->lost = traffic_lost(&stats);
}

/* --- subscriptions, mailboxes and groups that come and go --------------------------------------------------- */

struct changer {
	struct place *place;
	struct dice dice;
};

/* Freed behind the last call. */
struct listener {
	uint64_t calls;
};

static void
listen_in(void *arg, const struct bus_msg *msg)
{
	struct listener *l = arg;

	l->calls += msg->len > 0; /* nobody else writes it meanwhile */
}

static struct listener *
new_listener(void)
{
	struct listener *l = calloc(1, sizeof *l);

	must(l != NULL);
	return l;
}

static const char *
some_filter(struct dice *dice)
{
	static const char *const filters[] = {"#", "s/#", "s/+", "+/a", "t/c/d", "u/+/w", "none"};

	return filters[dice_below(dice, sizeof filters / sizeof filters[0])];
}

static bool
is_over(int answer)
{
	must(answer == 0 || answer == BUS_E_CLOSED);
	return answer != 0;
}

/* A subscription on somebody else's mailbox or on the default one. */
static void
change_subscription(struct changer *c)
{
	struct listener *l = new_listener();
	const char *filter = some_filter(&c->dice);
	struct bus_sub *sub;
	int err = c->place->goes || dice_below(&c->dice, 2) == 0
		      ? bus_mailbox_subscribe(c->place->mbox, filter, listen_in, l, &sub)
		      : bus_subscribe(c->place->bus, filter, listen_in, l, &sub);

	if (is_over(err)) {
		free(l);
		return;
	}
	stress_stall(&c->dice);
	if (dice_below(&c->dice, 2) == 0) {
		bus_unsubscribe(sub, free);
	} else {
		bus_unsubscribe(sub, NULL);
		free(l);
	}
}

/* A mailbox of any kind that loses nothing of the others, or a receiver of a group. */
static void
change_mailbox(struct changer *c)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = (int)dice_below(&c->dice, BUS_FULL_REFUSE),
	    .drain = (int)dice_below(&c->dice, BUS_DRAIN_PUBLISHER + 1),
	    .bytes = 4096};
	struct listener *l = new_listener();
	struct bus_mailbox *mbox;

	if (dice_below(&c->dice, 2) == 0) {
		cfg.group = "workers";
		cfg.full = BUS_FULL_DROP_OLDEST;
		cfg.drain = (int)dice_below(&c->dice, BUS_DRAIN_PUBLISHER);
	}
	if (!is_over(bus_mailbox_open(c->place->bus, &cfg, &mbox))) {
		for (uint32_t i = dice_below(&c->dice, 3); i > 0; i--)
			is_over(
			    bus_mailbox_subscribe(mbox, some_filter(&c->dice), listen_in, l, NULL));
		stress_stall(&c->dice);
		if (cfg.drain == BUS_DRAIN_CALLER)
			must(bus_dispatch(mbox, 0, dice_below(&c->dice, 100)) >= BUS_E_CLOSED);
		bus_mailbox_close(mbox);
	}
	free(l);
}

static void *
change(void *arg)
{
	struct changer *c = arg;

	while (!c->place->over) {
		if (c->place->goes || dice_below(&c->dice, 2) == 0)
			change_subscription(c);
		else
			change_mailbox(c);
	}
	return NULL;
}

/* In half of the rounds the bus closes while all are at work. */
static void
storm_round(const struct scenario *scenario, struct round *round)
{
	struct publisher publishers[PUBLISHERS];
	struct changer changers[CHANGERS];
	pthread_t threads[CHANGERS];
	struct place place;
	struct crew crew;
	uint64_t accepted = 0;

	(void)scenario;
	place_open(&place);
	place.goes = round->seed % 2 == 0;
	for (unsigned i = 0; i < CHANGERS; i++) {
		changers[i] = (struct changer){&place, dice_of(round->seed, 100 + i)};
		must(pthread_create(&threads[i], NULL, change, &changers[i]) == 0);
	}
	for (unsigned i = 0; i < PUBLISHERS; i++) {
		publishers[i] = publisher_of(
		    place.bus, i, (round->operations + i) / PUBLISHERS, round->seed, 0);
		publishers[i].handles = place.goes;
	}
	crew_start(&crew, round->seed, PUBLISHERS, publisher_run, publishers, sizeof publishers[0]);
	if (place.goes) {
		struct dice dice = dice_of(round->seed, 200);

		stress_nap(dice_below(&dice, 20000));
		must(bus_close(place.bus, stress_patience_ms()) >= 0);
		place.bus = NULL; /* closing it again does nothing */
	}
	crew_join(&crew);
	place.over = true;
	for (unsigned i = 0; i < CHANGERS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < PUBLISHERS; i++) {
		accepted += publishers[i].accepted;
		must_eq(publishers[i].refused, 0);
		publisher_close(&publishers[i]);
	}
	place_close(&place, accepted, round);
}

/* --- threads that publish a little and end -------------------------------------------------------------------- */

struct life {
	struct place *place;
	uint64_t operations;
	struct dice dice;
};

static void *
live(void *arg)
{
	struct life *life = arg;
	struct bus *bus = life->place->bus;
	struct bus_pub *pub;
	void *data;

	must(bus_pub_open(bus, topic_name(dice_below(&life->dice, TOPICS)), NULL, &pub) == 0);
	for (uint64_t i = 0; i < life->operations; i++) {
		uint32_t len = dice_below(&life->dice, NOISE);

		switch (dice_below(&life->dice, 3)) {
		case 0:
			must(bus_publish(bus, topic_name(dice_below(&life->dice, TOPICS)),
				 stress_noise(i), len) == 0);
			break;
		case 1:
			must(bus_pub_send(pub, stress_noise(i), len) == 0);
			break;
		default:
			must(bus_pub_loan(pub, len, &data) == 0);
			must(bus_pub_commit(pub, data, len) == 0);
		}
	}
	bus_pub_close(pub);
	stress_did(life->operations);
	return NULL;
}

static void
lives_round(const struct scenario *scenario, struct round *round)
{
	struct life lives[AT_ONCE];
	struct place place;
	uint64_t done = 0;

	(void)scenario;
	place_open(&place);
	for (uint64_t begun = 0; begun < LIVES; begun += AT_ONCE) {
		struct crew crew;

		for (unsigned i = 0; i < AT_ONCE; i++) {
			/* All together as many as were asked for. */
			uint64_t until = round->operations * (begun + i + 1) / LIVES;

			lives[i] = (struct life){
			    &place, until - done, dice_of(round->seed, (unsigned)begun + i)};
			done = until;
		}
		crew_start(&crew, round->seed + begun, AT_ONCE, live, lives, sizeof lives[0]);
		crew_join(&crew);
	}
	place_close(&place, done, round);
}

const struct scenario ending_scenarios[] = {
    {"storm", "subscriptions, mailboxes, receivers and the bus come and go under traffic", 2, 20000,
	storm_round, 0, 0},
    {"lives", "1,000 threads, one after the other, each publishes a little and ends", 2, 200000,
	lives_round, 0, 0},
    {0},
};
