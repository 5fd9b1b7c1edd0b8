/* One mailbox: each policy with each drainer, under publishers that are held up anywhere and claims that stay open. */
#include "traffic.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_internal.h"
#include "mailbox/mailbox.h"

enum {
	NEAR_WRAP =
	    16384, /* bytes before positions pass 2^32, below which a bus does not last in a machine's life */
	FIRST_WAKE = -20,
	CLAIM_US = 3000 /* between two open claims, at most */
};

struct scene {
	struct bus *bus;
	struct bus_mailbox *mbox;
	struct reader reader;
	uint64_t seed;
	_Atomic bool over; /* no more open claims */
};

/* bus_mailbox_open(), but positions and futex words begin just before they pass 32 bits. */
static struct bus_mailbox *
open_near_wrap(struct bus *bus, const struct bus_mailbox_config *cfg)
{
	struct bus_mailbox *m;

	bus__lock(bus);
	must(bus__mailbox_new(bus, cfg, NULL, &m) == 0);
	bus__ring_fini(&m->ring);
	must(bus__ring_init(&m->ring, cfg->bytes, (UINT64_C(1) << 32) - NEAR_WRAP) == 0);
	if (cfg->drain == BUS_DRAIN_PUBLISHER)
		must(bus__ring_sleep(&m->ring));
	m->wakes = m->phase_wakes = m->room = (uint32_t)FIRST_WAKE;
	bus__unlock(bus);
	if (cfg->drain == BUS_DRAIN_THREAD)
		must(bus__mailbox_start(m) == 0);
	return m;
}

/* Claims as a publish does that another mailbox refuses then: places that come to nothing, and hold others up. */
static void *
claim_and_cancel(void *arg)
{
	struct scene *s = arg;
	struct dice dice = dice_of(s->seed, PUBLISHERS + 1);

	while (!s->over) {
		const struct ring_item item = {.len = dice_below(&dice, RING_INLINE_MAX + 1)};
		struct ring_claim at;
		enum ring_answer answer = bus__ring_claim(&s->mbox->ring, &item, &at);

		if (answer != RING_FULL) {
			stress_stall(&dice);
			bus__ring_cancel(&s->mbox->ring, &at, &item);
		}
		if (answer == RING_WAKE)
			bus__mailbox_wake_now(s->mbox);
		stress_nap(dice_below(&dice, CLAIM_US));
	}
	return NULL;
}

/* Each way in turn that a caller may drain; none of them has a time limit, so that a lost wake-up is a hang. */
static void *
drain_by_caller(void *arg)
{
	struct scene *s = arg;
	struct dice dice = dice_of(s->seed, PUBLISHERS + 2);
	int answer;

	do {
		const struct bus_msg *msg;
		uint32_t roll = dice_below(&dice, 8);

		if (roll == 0) {
			struct pollfd fd = {.fd = bus_mailbox_fd(s->mbox), .events = POLLIN};

			must(fd.fd >= 0 || fd.fd == BUS_E_CLOSED);
			must(fd.fd < 0 || poll(&fd, 1, -1) == 1);
		}
		if (roll < 3) {
			answer =
			    bus_dispatch(s->mbox, roll == 0 ? 0 : -1, dice_below(&dice, 3) * 20);
			continue;
		}
		answer = bus_recv(s->mbox, roll == 3 ? 0 : -1, &msg);
		if (answer == 1)
			reader_read(&s->reader, msg);
	} while (answer >= 0);
	must(answer == BUS_E_CLOSED);
	return NULL;
}

static void
check_accounts(
    struct scene *s, const struct publisher *publishers, unsigned count, struct round *round)
{
	struct bus_stats stats = traffic_stats(s->mbox), all = {.size = sizeof all};
	uint64_t accepted = s->reader.echoed, refused = s->reader.echo_refused;

	for (unsigned i = 0; i < count; i++) {
		accepted += publishers[i].accepted;
		refused += publishers[i].refused + publishers[i].unsure;
	}
	must_eq(stats.offered, accepted + refused);
	must_eq(stats.refused, refused);
	must_eq(stats.delivered, s->reader.got);
	must_eq(stats.pending, 0);
	must_eq(traffic_lost(&stats), s->reader.gaps);
	must_eq(traffic_lost(&stats), s->reader.told);
	must(bus_stats(s->bus, &all) == 0);
	must_eq(all.offered, stats.offered);
	round->delivered = stats.delivered;
	round->lost = traffic_lost(&stats);
	round->refused = stats.refused;
}

/* Every fourth round has one publisher alone: then each message tells exactly what is missing before it. */
static void
policy_round(const struct scenario *scenario, struct round *round)
{
	struct dice dice = dice_of(round->seed, PUBLISHERS);
	const struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = scenario->full,
	    .drain = scenario->drain,
	    .bytes = (size_t)4096 << dice_below(&dice, 3)};
	unsigned count = dice_below(&dice, 4) == 0 ? 1 : PUBLISHERS;
	struct scene *s = calloc(1, sizeof *s);
	struct publisher publishers[PUBLISHERS];
	pthread_t caller, claimer;
	struct bus_sub *sub;
	struct crew crew;

	must(s != NULL && bus_open(NULL, NULL, &s->bus) == 0);
	s->seed = round->seed;
	s->mbox = open_near_wrap(s->bus, &cfg);
	s->reader.in_order = cfg.full != BUS_FULL_LATEST;
	s->reader.lossless = cfg.full == BUS_FULL_REFUSE;
	s->reader.told_at_once = count == 1;
	s->reader.echoes = count == 1 ? NULL : s->bus;
	s->reader.dice = dice_of(round->seed, PUBLISHERS + 3);
	must(bus_mailbox_subscribe(s->mbox, "#", reader_read, &s->reader, &sub) == 0);
	if (cfg.drain == BUS_DRAIN_CALLER)
		must(pthread_create(&caller, NULL, drain_by_caller, s) == 0);
	must(pthread_create(&claimer, NULL, claim_and_cancel, s) == 0);
	for (unsigned i = 0; i < count; i++)
		publishers[i] = publisher_of(s->bus, i, (round->operations + i) / count,
		    round->seed, i == 0 ? -1 : (int)i - 1);
	crew_start(&crew, round->seed, count, publisher_run, publishers, sizeof publishers[0]);
	crew_join(&crew);
	s->over = true;
	pthread_join(claimer, NULL);
	traffic_end(publishers, count, &(struct audience){&s->mbox, &s->reader, 1});
	check_accounts(s, publishers, count, round);

	must(bus_close(s->bus, stress_patience_ms()) == 0);
	if (cfg.drain == BUS_DRAIN_CALLER)
		pthread_join(caller, NULL);
	for (unsigned i = 0; i < count; i++)
		publisher_close(&publishers[i]);
	bus_unsubscribe(sub, NULL);
	bus_mailbox_close(s->mbox);
	free(s);
}

#define POLICY(name, full, drain, does)                                                            \
	{                                                                                          \
		name, does, 2, 100000, policy_round, full, drain                                   \
	}

const struct scenario policy_scenarios[] = {
    POLICY("oldest-caller", BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER,
	"drop_oldest, drained by bus_recv(), bus_dispatch() and poll()"),
    POLICY("oldest-thread", BUS_FULL_DROP_OLDEST, BUS_DRAIN_THREAD, "drop_oldest, its own thread"),
    POLICY("oldest-publisher", BUS_FULL_DROP_OLDEST, BUS_DRAIN_PUBLISHER,
	"drop_oldest, drained by whoever publishes"),
    POLICY("newest-caller", BUS_FULL_DROP_NEWEST, BUS_DRAIN_CALLER, "drop_newest, the same three"),
    POLICY("newest-thread", BUS_FULL_DROP_NEWEST, BUS_DRAIN_THREAD, ""),
    POLICY("newest-publisher", BUS_FULL_DROP_NEWEST, BUS_DRAIN_PUBLISHER, ""),
    POLICY("latest-caller", BUS_FULL_LATEST, BUS_DRAIN_CALLER, "latest, the same three"),
    POLICY("latest-thread", BUS_FULL_LATEST, BUS_DRAIN_THREAD, ""),
    POLICY("latest-publisher", BUS_FULL_LATEST, BUS_DRAIN_PUBLISHER, ""),
    POLICY("refuse-caller", BUS_FULL_REFUSE, BUS_DRAIN_CALLER, "refuse, the same three"),
    POLICY("refuse-thread", BUS_FULL_REFUSE, BUS_DRAIN_THREAD, ""),
    POLICY("refuse-publisher", BUS_FULL_REFUSE, BUS_DRAIN_PUBLISHER, ""),
    {0},
};
