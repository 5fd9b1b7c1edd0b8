/* bench/memory.c: what one more of each thing costs in bytes of heap, malloc's own share included.
 *
 * Each row makes many and divides, so a figure holds its share of the tables, which double when they are full.
 * glibc only. Prints a line for each row, name and bytes with a tab between; ./dev bench memory reads them. */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

#define MANY 100000
#define FEW  1000

static struct bus *bus;
static struct bus_mailbox *mbox;
static struct bus_sub *sub;
static struct bus_pub *pub; /* the last of many: the process ends with them */

static size_t
heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void
must(int answer, const char *what)
{
	if (answer >= 0)
		return;
	fprintf(stderr, "bench_memory: %s: %s\n", what, bus_strerror(answer));
	exit(1);
}

static void
ignore(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
}

/* --- what is made many times ----------------------------------------------------------------------------------- */

static const char *
name_of(unsigned i)
{
	static char name[64];

	snprintf(name, sizeof name, "site/%03u/temp/%03u", i / 1000, i % 1000);
	return name;
}

/* 32 levels and 1,024 bytes, of which no two names share more than the root. */
static const char *
longest_name(unsigned i)
{
	static char name[BUS_LIMIT_TOPIC_BYTES + 1];

	memset(name, 'x', BUS_LIMIT_TOPIC_BYTES);
	for (unsigned level = 1; level < BUS_LIMIT_TOPIC_LEVELS; level++)
		name[level * 32] = '/';
	name[snprintf(name, 8, "%06u", i)] = 'x';
	return name;
}

static void
make_bus(unsigned i)
{
	(void)i;
	must(bus_open(NULL, NULL, &bus), "bus_open");
}

static void
make_mailbox(unsigned i)
{
	(void)i;
	must(bus_mailbox_open(bus, NULL, &mbox), "bus_mailbox_open");
}

static void
make_small_mailbox(unsigned i)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 4096};

	(void)i;
	must(bus_mailbox_open(bus, &cfg, &mbox), "bus_mailbox_open");
}

static void
make_topic(unsigned i)
{
	must(bus_publish(bus, name_of(i), "", 0), "bus_publish");
}

static void
make_longest_topic(unsigned i)
{
	must(bus_publish(bus, longest_name(i), "", 0), "bus_publish");
}

static const char payload[64] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/* The topic has its first message then, and room for all that follow. */
static void
keep_history(void)
{
	const struct bus_keep_config cfg = {.size = sizeof cfg, .last = 2 * FEW};

	must(bus_keep(bus, "history", &cfg), "bus_keep");
	must(bus_publish(bus, "history", payload, sizeof payload), "bus_publish");
}

static void
make_history(unsigned i)
{
	(void)i;
	must(bus_publish(bus, "history", payload, sizeof payload), "bus_publish");
}

static void
keep_value(unsigned i)
{
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = name_of(i),
	    .data = payload,
	    .len = sizeof payload,
	    .flags = BUS_MSG_RETAIN};

	must(bus_publish_msg(bus, &msg), "bus_publish_msg");
}

static void
make_handle(unsigned i)
{
	must(bus_pub_open(bus, name_of(i), NULL, &pub), "bus_pub_open");
}

static void
subscribe(const char *filter)
{
	must(bus_mailbox_subscribe(mbox, filter, ignore, NULL, &sub), "bus_mailbox_subscribe");
}

/* Of one filter that is there already, and matches no topic. */
static void
make_subscription(unsigned i)
{
	(void)i;
	subscribe("a/filter");
}

/* The same, of one that matches a topic. */
static void
make_matching_subscription(unsigned i)
{
	(void)i;
	subscribe("a/topic");
}

static void
make_filter(unsigned i)
{
	subscribe(name_of(i));
}

static void
make_longest_filter(unsigned i)
{
	subscribe(longest_name(i));
}

/* One filter that matches all topics there are. */
static void
make_routes(unsigned i)
{
	(void)i;
	subscribe("#");
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static void
row(const char *what, void (*make)(unsigned i), unsigned count, unsigned parts)
{
	size_t before = heap();

	for (unsigned i = 0; i < count; i++)
		make(i);
	printf("%s\t%zu\n", what, (heap() - before) / count / parts);
}

/* A bus with one mailbox for the rows that follow; what there was before stays where it is. */
static void
start_afresh(void)
{
	make_bus(0);
	make_mailbox(0);
}

int
main(void)
{
	row("bus", make_bus, FEW, 1);
	row("mailbox of 256 KiB, the default", make_mailbox, 100, 1);
	row("mailbox of 4 KiB, the smallest", make_small_mailbox, FEW, 1);

	start_afresh();
	row("topic `site/NNN/temp/NNN`, which shares three of four levels with others", make_topic,
	    MANY, 1);
	row("kept value of 64 bytes, the first of its topic", keep_value, MANY, 1);
	row("publisher handle", make_handle, MANY, 1);
	row("route: a topic that one more mailbox hears, with its first subscription there",
	    make_routes, 1, MANY);
	start_afresh();
	row("topic of 1,024 bytes in 32 levels, none shared: the largest there is",
	    make_longest_topic, MANY, 1);

	start_afresh();
	keep_history();
	row("message of 64 bytes more that `bus_keep()` keeps of a topic", make_history, FEW, 1);

	start_afresh();
	subscribe("a/filter");
	row("subscription of a filter that is there", make_subscription, MANY, 1);
	row("subscription of a new filter `site/NNN/temp/NNN`", make_filter, MANY, 1);
	row("subscription of a new filter of 1,024 bytes in 32 levels, none shared",
	    make_longest_filter, MANY, 1);

	start_afresh();
	must(bus_publish(bus, "a/topic", "", 0), "bus_publish");
	subscribe("a/topic");
	row("subscription of a filter that is there and matches one topic",
	    make_matching_subscription, MANY, 1);
	return 0;
}
