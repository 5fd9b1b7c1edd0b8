/* bench/named_libbus.c: a bus with a name. */
#include "named.h"

#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static struct bus *
join(const struct named_run *run)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = run->place};
	struct bus *bus;

	check(bus_open("bench", &cfg, &bus), "bus_open");
	return bus;
}

static void
publish(struct named_run *run, unsigned publisher)
{
	struct bus *bus = join(run);
	char *items = calloc(run->batch, run->payload);
	struct bus_slice slices[16];
	struct bus_pub *pub;

	check(items == NULL || run->batch > 16 ? -1 : 0, "calloc");
	for (unsigned i = 0; i < run->batch; i++)
		slices[i] = (struct bus_slice){items + i * run->payload, run->payload};
	check(
	    bus_pub_open(bus, publisher == 0 ? "bench/0" : "bench/1", NULL, &pub), "bus_pub_open");
	named_await_go(run);
	for (uint64_t sent = 0; sent < run->count; sent += run->batch) {
		named_keep_window(run, sent);
		if (run->batch == 1)
			check(bus_pub_send(pub, items, run->payload), "bus_pub_send");
		else
			check(bus_pub_send_many(pub, slices, run->batch), "bus_pub_send_many");
	}
	/* Until all have it: the log is the bus's, and goes with the last. */
	named_keep_window(run, UINT64_MAX);
	bus_pub_close(pub);
	bus_close(bus, 0);
	free(items);
}

struct listening {
	struct named_run *run;
	unsigned receiver;
	bool done;
};

static void
on_message(void *arg, const struct bus_msg *msg)
{
	struct listening *l = arg;

	l->done = named_came(l->run, l->receiver, msg->data);
}

static void
receive(struct named_run *run, unsigned receiver)
{
	struct listening l = {run, receiver, false};
	struct bus *bus = join(run);
	struct bus_stats stats = {.size = sizeof stats};
	struct bus_mailbox *m;

	check(bus_mailbox_open(bus, NULL, &m), "bus_mailbox_open");
	check(bus_mailbox_subscribe(m, "bench/+", on_message, &l, NULL), "bus_mailbox_subscribe");
	named_ready(run, receiver);
	while (!l.done)
		check(bus_dispatch(m, 1000, 0), "bus_dispatch");
	atomic_store(&run->ends[receiver].ended_ns, bench_now_ns());
	check(bus_mailbox_stats(m, &stats), "bus_mailbox_stats");
	if (stats.lost[BUS_LOSS_LAPPED] > 0)
		bench_die("losing nothing");
	bus_mailbox_close(m);
	bus_close(bus, 0);
}

/* --- there and back ------------------------------------------------------------------------------------------ */

struct pinging {
	struct bus_pub *out;
	struct bus_mailbox *in;
	bool came, asleep;
};

static void
on_ping(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	((struct pinging *)arg)->came = true;
}

static void
open_pinging(struct pinging *p, struct bus *bus, const char *out, const char *in)
{
	check(bus_pub_open(bus, out, NULL, &p->out), "bus_pub_open");
	check(bus_mailbox_open(bus, NULL, &p->in), "bus_mailbox_open");
	check(bus_mailbox_subscribe(p->in, in, on_ping, p, NULL), "bus_mailbox_subscribe");
}

static void
await(struct pinging *p)
{
	while (!p->came)
		check(bus_dispatch(p->in, p->asleep ? 1000 : 0, 1), "bus_dispatch");
	p->came = false;
}

static void
trip(void *arg)
{
	struct pinging *p = arg;

	check(bus_pub_send(p->out, "12345678", 8), "bus_pub_send");
	await(p);
}

static void
ping(struct named_run *run, bool asleep)
{
	struct pinging p = {.asleep = asleep};
	struct bus *bus = join(run);

	open_pinging(&p, bus, "ping", "pong");
	named_await_go(run);
	named_time_trips(run, trip, &p);
}

static void
pong(struct named_run *run, bool asleep)
{
	struct pinging p = {.asleep = asleep};
	struct bus *bus = join(run);

	open_pinging(&p, bus, "pong", "ping");
	named_ready(run, 0);
	for (;;) { /* until it is killed */
		await(&p);
		check(bus_pub_send(p.out, "12345678", 8), "bus_pub_send");
	}
}

const struct named_peer named_libbus = {"libbus", 0, publish, receive, ping, pong};
