/* net/node.c: a bus with one link, as one machine of tests/net/lab.py. It publishes numbers and accounts for those of its peer.
 *
 *   net_node listen|dial URL HEARTBEAT_MS NAME PEER [lan USERS_FILE]
 *
 * Without lan any address is allowed. It reads lines: "rate N BYTES", messages a second and the size of each; "report"; "end".
 * It writes lines: "url URL"; "up T" and "down T REASON", with T in monotonic seconds; and as a report one line of JSON. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "base/clock.h"

enum { BYTES_MOST = 65536, LOOK_MS = 2, INBOX = 64 << 20 };

/* The received numbers: each once, or counted in `lost` of the next one. Written by the callback alone. */
static struct {
	_Atomic uint64_t count, lost, next, wrong;
} heard;

static void
hear(void *arg, const struct bus_msg *msg)
{
	uint64_t number;

	(void)arg;
	memcpy(&number, msg->data, sizeof number);
	heard.wrong += number != heard.next + msg->lost;
	heard.count++;
	heard.lost += msg->lost;
	heard.next = number + 1;
}

static double
seconds(void)
{
	return (double)bus__now_ns() / 1e9;
}

static struct bus_link_stats
stats_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	bus_link_stats(link, &stats);
	return stats;
}

static bool
is_up(const struct bus_link_stats *stats, bool listens)
{
	return listens ? stats->peers > 0 : stats->state == BUS_LINK_UP;
}

static void
report(struct bus_link *link, uint64_t published)
{
	struct bus_link_stats stats = stats_of(link);
	uint64_t next;

	/* Again, if one arrived in between. */
	do {
		next = heard.next;
		if (heard.count + heard.lost == next)
			break;
	} while (next != heard.next);
	printf(
	    "{\"published\": %llu, \"count\": %llu, \"lost\": %llu, \"next\": %llu, \"wrong\": %llu, "
	    "\"lost_by_peers\": %llu, \"denied\": %llu, \"silent\": %llu, \"last_error\": \"%s\"}\n",
	    (unsigned long long)published, (unsigned long long)heard.count,
	    (unsigned long long)heard.lost, (unsigned long long)next,
	    (unsigned long long)heard.wrong, (unsigned long long)stats.lost_by_peers,
	    (unsigned long long)stats.ended[BUS_LINK_END_DENIED],
	    (unsigned long long)stats.ended[BUS_LINK_END_SILENT], bus_errname(stats.last_error));
}

static int
fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, bus_error_text());
	return 1;
}

static int
run(struct bus *bus, struct bus_link *link, const char *name, bool listens)
{
	static char data[BYTES_MOST];
	struct pollfd input = {.fd = 0, .events = POLLIN};
	uint64_t published = 0, rate = 0;
	int64_t next_ns = 0;
	unsigned bytes = sizeof published;
	char line[100], topic[100];
	bool up = false;

	snprintf(topic, sizeof topic, "n/%s", name);
	for (;;) {
		struct bus_link_stats stats = stats_of(link);

		if (is_up(&stats, listens) != up) {
			up = !up;
			printf("%s %.4f %s\n", up ? "up" : "down", seconds(),
			    up ? "" : bus_errname(stats.last_error));
		}
		for (int64_t now_ns = bus__now_ns(); rate > 0 && next_ns <= now_ns;
		     next_ns += (int64_t)(1000000000 / rate)) {
			memcpy(data, &published, sizeof published);
			if (bus_publish(bus, topic, data, bytes) < 0)
				return fail("publish");
			published++;
		}
		if (poll(&input, 1, LOOK_MS) <= 0)
			continue;
		if (fgets(line, sizeof line, stdin) == NULL || strcmp(line, "end\n") == 0)
			return 0;
		if (strcmp(line, "report\n") == 0)
			report(link, published);
		else if (strncmp(line, "rate ", 5) == 0) {
			char *end;

			rate = strtoull(line + 5, &end, 10);
			bytes = (unsigned)strtoul(end, NULL, 10);
			next_ns = bus__now_ns();
		}
	}
}

int
main(int argc, char **argv)
{
	struct bus_link_config cfg = {.size = sizeof cfg};
	/* With room for the burst of a link whose network heals. */
	const struct bus_mailbox_config inbox = {
	    .size = sizeof inbox, .bytes = INBOX, .drain = BUS_DRAIN_THREAD};
	struct bus_mailbox *mbox;
	bool listens = argc > 5 && strcmp(argv[1], "listen") == 0;
	char url[300], filter[100];
	struct bus *bus;
	struct bus_link *link;
	int err;

	if (argc < 6)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() sees the unread rest */
	cfg.heartbeat_ms = (uint32_t)strtoul(argv[3], NULL, 10);
	cfg.allow_lan = argc > 6;
	cfg.users_file = argc > 7 ? argv[7] : NULL;
	cfg.allow_insecure_remote = argc <= 6;
	if (bus_open(NULL, NULL, &bus) < 0)
		return fail("open");
	snprintf(filter, sizeof filter, "n/%s", argv[5]);
	if (bus_mailbox_open(bus, &inbox, &mbox) < 0 ||
	    bus_mailbox_subscribe(mbox, filter, hear, NULL, NULL) < 0)
		return fail("subscribe");
	if ((listens ? bus_listen : bus_dial)(bus, argv[2], &cfg, &link) < 0)
		return fail(argv[1]);
	bus_link_url(link, url, sizeof url);
	printf("url %s\n", url);
	err = run(bus, link, argv[4], listens);
	bus_link_close(link);
	bus_close(bus, 1000);
	return err;
}
