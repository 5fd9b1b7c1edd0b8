/* bench/rtt.c: a question and its answer through two mailboxes whose drainers are awake, beside a bare word
 * there and one back. */
#include <stdlib.h>

#include <libbus/bus.h>

#include "contest.h"
#include "machine.h"

#define LONGEST    64 /* bytes of a payload */
#define WAIT_MS    10000
#define ROUND_RUNS 5000
#define WARM_UP    (ROUND_RUNS / 10)

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static void
on_place(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
	bench_pin(1);
}

/* The far end: a callback on its mailbox's own thread that publishes the answer. */
static void
on_question(void *arg, const struct bus_msg *msg)
{
	check(bus_pub_send(arg, msg->data, msg->len), "bus_pub_send");
}

static void
on_answer(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	++*(uint64_t *)arg;
}

static void
ask(struct bus_pub *questions, struct bus_mailbox *answers, uint64_t *answered, size_t payload)
{
	static const char data[LONGEST];
	uint64_t expected = *answered + 1;

	check(bus_pub_send(questions, data, payload), "bus_pub_send");
	while (*answered != expected)
		check(bus_dispatch(answers, -1, 1), "bus_dispatch");
}

static struct sample
run_libbus(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus *bus;
	struct bus_mailbox *near_end, *far_end;
	struct bus_pub *questions, *answers;
	uint64_t answered = 0;
	double *values = calloc(count, sizeof *values), median;

	(void)entry;
	check(values == NULL ? -1 : 0, "calloc");
	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_mailbox_open(bus, NULL, &near_end), "bus_mailbox_open");
	check(bus_mailbox_open(bus, &cfg, &far_end), "bus_mailbox_open");
	check(bus_pub_open(bus, "question", NULL, &questions), "bus_pub_open");
	check(bus_pub_open(bus, "answer", NULL, &answers), "bus_pub_open");
	check(
	    bus_mailbox_subscribe(far_end, "place", on_place, NULL, NULL), "bus_mailbox_subscribe");
	check(bus_mailbox_subscribe(far_end, "question", on_question, answers, NULL),
	    "bus_mailbox_subscribe");
	check(bus_mailbox_subscribe(near_end, "answer", on_answer, &answered, NULL),
	    "bus_mailbox_subscribe");
	check(bus_publish(bus, "place", NULL, 0), "bus_publish");
	bench_pin(0);
	for (unsigned i = 0; i < WARM_UP; i++)
		ask(questions, near_end, &answered, contest->payload);
	for (uint64_t run = 0; run < count; run++) {
		int64_t begun = bench_now_ns();

		for (unsigned trip = 0; trip < BENCH_TRIPS; trip++)
			ask(questions, near_end, &answered, contest->payload);
		values[run] = (double)(bench_now_ns() - begun) / BENCH_TRIPS;
	}
	bench_unpin();
	bus_pub_close(questions);
	bus_mailbox_close(near_end);
	bus_mailbox_close(far_end);
	bus_pub_close(answers);
	check(bus_close(bus, WAIT_MS), "bus_close");
	median = bench_median(values, (unsigned)count);
	free(values);
	return (struct sample){.value = median};
}

static struct sample
run_line(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	(void)contest, (void)entry;
	return (struct sample){.value = bench_line_rtt_ns((unsigned)count)};
}

static const struct entry entries[] = {
    {"libbus", run_libbus, NULL, 0, 0},
    {"bare cache line", run_line, NULL, 1.4, 1.15},
};
static const struct entry entries_64[] = {
    {"libbus", run_libbus, NULL, 0, 0},
    {"bare cache line", run_line, NULL, 0, 0},
};

#define RTT(bytes, table)                                                                          \
	{                                                                                          \
		.group = "rtt", .name = "round trip through two mailboxes, awake",                 \
		.payload = bytes, .unit = "ns", .at_most = true, .count = ROUND_RUNS,              \
		ENTRIES(table)                                                                     \
	}

const struct contest rtt_contests[] = {RTT(8, entries), RTT(LONGEST, entries_64)};
const unsigned rtt_contest_count = COUNT_OF(rtt_contests);
