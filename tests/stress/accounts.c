/* Exact accounts over several mailboxes: of two that refuse, of one beside which others come and go, and of all that a bus
 * had when it closed under traffic. */
#include "traffic.h"

#include <stdlib.h>
#include <string.h>

#include "mailbox/mailbox.h"

struct pair {
	struct bus_mailbox *mbox;
	struct reader *reader;
};

/* --- mailboxes that refuse ---------------------------------------------------------------------------------- */

enum { MAILBOXES = 2 };

static void *
receive(void *arg)
{
	const struct pair *pair = arg;
	const struct bus_msg *msg;
	int answer;

	while ((answer = bus_recv(pair->mbox, -1, &msg)) >= 0)
		if (answer == 1)
			reader_read(pair->reader, msg);
	must(answer == BUS_E_CLOSED);
	return NULL;
}

/* Both mailboxes get the same messages, none of them loses one, and each refusal is counted by one of them. */
static void
waiting_round(const struct scenario *scenario, struct round *round)
{
	struct dice dice = dice_of(round->seed, PUBLISHERS);
	struct reader *readers = calloc(MAILBOXES, sizeof *readers);
	struct publisher publishers[PUBLISHERS];
	struct bus_mailbox *mboxes[MAILBOXES];
	uint64_t accepted = 0, refused = 0;
	struct pair pair;
	pthread_t caller;
	struct crew crew;
	struct bus *bus;

	(void)scenario;
	must(readers != NULL && bus_open(NULL, NULL, &bus) == 0);
	for (unsigned i = 0; i < MAILBOXES; i++) {
		const struct bus_mailbox_config cfg = {.size = sizeof cfg,
		    .full = BUS_FULL_REFUSE,
		    .drain = i == 0 ? BUS_DRAIN_CALLER : BUS_DRAIN_THREAD,
		    .bytes = (size_t)4096 << dice_below(&dice, 2)};

		readers[i].in_order = readers[i].lossless = true;
		must(bus_mailbox_open(bus, &cfg, &mboxes[i]) == 0);
		must(bus_mailbox_subscribe(mboxes[i], "#", reader_read, &readers[i], NULL) == 0);
	}
	pair = (struct pair){mboxes[0], &readers[0]};
	must(pthread_create(&caller, NULL, receive, &pair) == 0);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		publishers[i] = publisher_of(bus, i, (round->operations + i) / PUBLISHERS,
		    round->seed, i == PUBLISHERS - 1 ? 1 : -1);
	crew_start(&crew, round->seed, PUBLISHERS, publisher_run, publishers, sizeof publishers[0]);
	crew_join(&crew);
	traffic_end(publishers, PUBLISHERS, &(struct audience){mboxes, readers, MAILBOXES});

	for (unsigned i = 0; i < PUBLISHERS; i++) {
		accepted += publishers[i].accepted;
		refused += publishers[i].refused + publishers[i].unsure;
	}
	for (unsigned i = 0; i < MAILBOXES; i++) {
		struct bus_stats stats = traffic_stats(mboxes[i]);

		must_eq(stats.delivered, accepted);
		must_eq(readers[i].got, accepted);
		must_eq(traffic_lost(&stats), 0);
		round->delivered += stats.delivered;
		round->refused += stats.refused;
	}
	must_eq(round->refused, refused);
	must(bus_close(bus, stress_patience_ms()) == 0);
	pthread_join(caller, NULL);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		publisher_close(&publishers[i]);
	for (unsigned i = 0; i < MAILBOXES; i++)
		bus_mailbox_close(mboxes[i]);
	free(readers);
}

/* --- mailboxes and subscriptions ------------------------------------------------------------------------------ */

enum { STORMERS = 2, SUBS = 4, STEPS = 20 };

struct storm {
	struct bus *bus;
	_Atomic bool over;
};

/* One subscription, and the mailbox that it is in: freed when the library says that it does not need it. */
struct ear {
	struct bus_sub *_Atomic sub; /* taken by whoever ends it */
	_Atomic bool deaf;           /* it has ended, and may not be called */
	_Atomic unsigned dones;
	struct box *box;
};

struct box {
	struct bus_mailbox *mbox;
	struct dice dice; /* of its callbacks */
	uint64_t calls;
	struct ear ears[SUBS];
};

static void
say_done(void *arg)
{
	struct ear *ear = arg;

	ear->deaf = true;
	ear->dones++;
}

/* done() gets the argument of the subscription. */
static void
listen(void *arg, const struct bus_msg *msg)
{
	struct ear *ear = arg;
	struct bus_sub *sub;

	must(!ear->deaf && msg->len > 0);
	ear->box->calls++;
	if (dice_below(&ear->box->dice, 200) != 0)
		return;
	sub = atomic_exchange(&ear->sub, NULL);
	if (sub != NULL)
		bus_unsubscribe(sub, say_done);
}

/* From outside: when it returns, it is not called any more. */
static void
end_ear(struct ear *ear, bool with_done)
{
	struct bus_sub *sub = atomic_exchange(&ear->sub, NULL);

	if (sub == NULL)
		return;
	bus_unsubscribe(sub, with_done ? say_done : NULL);
	ear->deaf = true;
}

static void
use(struct box *box, int drain, struct dice *dice, uint64_t *received)
{
	const struct bus_msg *msg;

	for (uint32_t steps = dice_below(dice, STEPS); steps > 0; steps--)
		if (drain != BUS_DRAIN_CALLER)
			stress_nap(100);
		else if (dice_below(dice, 2) == 0)
			must(bus_dispatch(box->mbox, 1, dice_below(dice, 50)) >= 0);
		else
			*received += bus_recv(box->mbox, 1, &msg) == 1;
}

static void
open_and_close(struct storm *s, struct dice *dice)
{
	static const char *const filters[] = {"#", "s/#", "s/+", "s/a", "+/b", "t/c/d", "x/y"};
	const struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = (int)dice_below(dice, 4),
	    .drain = (int)dice_below(dice, 3),
	    .bytes = (size_t)4096 << dice_below(dice, 4)};
	struct box *box = calloc(1, sizeof *box);
	uint32_t subs = 1 + dice_below(dice, SUBS);
	uint64_t received = 0;
	struct bus_mailbox *counters;
	struct bus_stats stats;

	must(box != NULL && bus_mailbox_open(s->bus, &cfg, &box->mbox) == 0);
	counters = bus__mailbox_ref(box->mbox); /* to be read when it is gone */
	box->dice = dice_of(dice->state, 0);
	for (uint32_t i = 0; i < subs; i++) {
		struct bus_sub *sub;

		box->ears[i].box = box;
		must(bus_mailbox_subscribe(box->mbox, filters[dice_below(dice, 7)], listen,
			 &box->ears[i], &sub) == 0);
		box->ears[i].sub = sub;
	}
	use(box, cfg.drain, dice, &received);
	for (uint32_t i = 0; i < subs; i++)
		if (dice_below(dice, 2) == 0)
			end_ear(&box->ears[i], dice_below(dice, 2) == 0);
	use(box, cfg.drain, dice, &received);
	bus_mailbox_close(box->mbox);
	for (uint32_t i = 0; i < subs; i++) {
		end_ear(&box->ears[i], true);
		must(box->ears[i].dones <= 1);
	}
	stats = traffic_stats(counters);
	must_eq(stats.pending, 0);
	/* A message counts once, however many are called. */
	must(stats.delivered <= box->calls + received);
	if (subs == 1)
		must_eq(stats.delivered, box->calls + received);
	bus__mailbox_unref(counters);
	free(box);
}

struct stormer {
	struct storm *storm;
	struct dice dice;
};

static void *
storm(void *arg)
{
	struct stormer *s = arg;

	while (!s->storm->over)
		open_and_close(s->storm, &s->dice);
	return NULL;
}

/* One mailbox stays. It gets what was accepted and nothing else, whatever comes and goes beside it. */
static void
mailboxes_round(const struct scenario *scenario, struct round *round)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .drain = BUS_DRAIN_THREAD, .bytes = 65536};
	struct reader *reader = calloc(1, sizeof *reader);
	struct publisher publishers[PUBLISHERS];
	struct stormer stormers[STORMERS];
	struct crew publishing, storming;
	struct bus_mailbox *stays;
	struct bus_stats stats;
	struct storm s = {0};
	uint64_t accepted = 0;

	(void)scenario;
	must(reader != NULL && bus_open(NULL, NULL, &s.bus) == 0);
	reader->in_order = true;
	must(bus_mailbox_open(s.bus, &cfg, &stays) == 0);
	must(bus_mailbox_subscribe(stays, "#", reader_read, reader, NULL) == 0);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		publishers[i] = publisher_of(
		    s.bus, i, (round->operations + i) / PUBLISHERS, round->seed, (int)i);
	for (unsigned i = 0; i < STORMERS; i++)
		stormers[i] = (struct stormer){&s, dice_of(round->seed, PUBLISHERS + i)};
	crew_start(
	    &publishing, round->seed, PUBLISHERS, publisher_run, publishers, sizeof publishers[0]);
	crew_start(&storming, round->seed + 1, STORMERS, storm, stormers, sizeof stormers[0]);
	crew_join(&publishing);
	s.over = true;
	crew_join(&storming);
	traffic_end(publishers, PUBLISHERS, &(struct audience){&stays, reader, 1});

	for (unsigned i = 0; i < PUBLISHERS; i++) {
		accepted += publishers[i].accepted;
		round->refused += publishers[i].refused + publishers[i].unsure;
	}
	stats = traffic_stats(stays);
	must_eq(stats.offered, accepted);
	must_eq(stats.delivered, reader->got);
	must_eq(stats.refused, 0);
	must_eq(traffic_lost(&stats), reader->gaps);
	must_eq(traffic_lost(&stats), reader->told);
	round->delivered = stats.delivered;
	round->lost = traffic_lost(&stats);
	must(bus_close(s.bus, stress_patience_ms()) == 0);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		publisher_close(&publishers[i]);
	bus_mailbox_close(stays);
	free(reader);
}

/* --- a whole bus ---------------------------------------------------------------------------------------------- */

enum { BOXES = 3, OPERATIONS_MOST = 4000 };

/* What was accepted is delivered or counted, in each of three mailboxes, whenever the bus closes. */
static void
close_once(uint64_t seed, uint64_t operations, struct round *round)
{
	static const int limits_ms[] = {0, 1, 20, 20000};
	struct dice dice = dice_of(seed, PUBLISHERS);
	struct reader *readers = calloc(BOXES, sizeof *readers);
	struct bus_mailbox *mboxes[BOXES], *counters[BOXES];
	struct publisher publishers[PUBLISHERS];
	uint64_t accepted = 0, refused = 0, unsure = 0, counted = 0, closed = 0;
	struct pair pair;
	pthread_t caller;
	struct crew crew;
	struct bus *bus;
	int left;

	must(readers != NULL && bus_open(NULL, NULL, &bus) == 0);
	for (int i = 0; i < BOXES; i++) {
		const struct bus_mailbox_config cfg = {.size = sizeof cfg,
		    .full = (int)dice_below(&dice, 4),
		    .drain = i,
		    .bytes = (size_t)4096 << dice_below(&dice, 3)};

		readers[i].in_order = cfg.full != BUS_FULL_LATEST;
		must(bus_mailbox_open(bus, &cfg, &mboxes[i]) == 0);
		must(bus_mailbox_subscribe(mboxes[i], "#", reader_read, &readers[i], NULL) == 0);
		counters[i] = bus__mailbox_ref(mboxes[i]);
	}
	pair = (struct pair){mboxes[BUS_DRAIN_CALLER], &readers[BUS_DRAIN_CALLER]};
	must(pthread_create(&caller, NULL, receive, &pair) == 0);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		publishers[i] = publisher_of(bus, i, operations, seed, (int)i - 1);
	crew_start(&crew, seed, PUBLISHERS, publisher_run, publishers, sizeof publishers[0]);
	stress_nap(dice_below(&dice, 3000));
	left = bus_close(bus, limits_ms[dice_below(&dice, 4)]);
	must(left >= 0);
	crew_join(&crew);
	pthread_join(caller, NULL);
	for (unsigned i = 0; i < PUBLISHERS; i++) {
		accepted += publishers[i].accepted;
		refused += publishers[i].refused;
		unsure += publishers[i].unsure;
		publisher_close(&publishers[i]);
	}
	for (int i = 0; i < BOXES; i++) {
		struct bus_stats stats;

		bus_mailbox_close(mboxes[i]);
		stats = traffic_stats(counters[i]);
		must_eq(stats.offered, accepted + stats.refused);
		must_eq(stats.delivered, readers[i].got);
		must_eq(stats.pending, 0);
		counted += stats.refused;
		closed += stats.lost[BUS_LOSS_CLOSED];
		round->delivered += stats.delivered;
		round->lost += traffic_lost(&stats);
		bus__mailbox_unref(counters[i]);
	}
	must(counted >= refused && counted <= refused + unsure);
	/* More may have come while it was counted. Less, if in each a callback was running, and if a publisher that had
	 * found no room before still made some. */
	must((uint64_t)left <= closed + BOXES + BOXES * PUBLISHERS * RING_TAKE_FRAMES);
	round->refused += counted;
	free(readers);
}

static void
closing_round(const struct scenario *scenario, struct round *round)
{
	uint64_t seed = round->seed << 20;

	(void)scenario;
	for (uint64_t done = 0, part; done < round->operations; done += part) {
		part = round->operations - done;
		if (part > OPERATIONS_MOST)
			part = OPERATIONS_MOST;
		close_once(seed++, (part + PUBLISHERS - 1) / PUBLISHERS, round);
	}
}

const struct scenario account_scenarios[] = {
    {"waiting", "two mailboxes that refuse, publishers that wait: both get all, or neither", 2,
	100000, waiting_round, 0, 0},
    {"mailboxes", "some come and go, with subscriptions that end in callbacks; one stays", 2,
	100000, mailboxes_round, 0, 0},
    {"closing", "the bus closes under traffic, with a mailbox for each drainer", 2, 100000,
	closing_round, 0, 0},
    {0},
};
