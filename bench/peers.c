/* bench/peers.c: what peers cost a bus: the memory of one that is idle, and how long one waits for its handshake beside one that asks for
 * all that it may. Linux, glibc. `./dev bench peers`.
 *
 * The other sides are raw sockets (tests/support/raw_peer.h), so that all memory of libbus in this process is the listening
 * bus's. */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "hostile.h"
#include "raw_peer.h"

enum { WARM = 50, PEERS = 400, TOPICS = 10000, FILTERS = 9000, HANDSHAKES = 300 };

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_peers: %s\n", what);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void
nap(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static struct bus_link_stats
stats_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	must(bus_link_stats(link, &stats) == 0, "bus_link_stats");
	return stats;
}

static struct bus *bus;
static struct bus_link *listener;
static char url[256];

static void
start(const char *address)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = 3600000};

	must(bus_open(NULL, NULL, &bus) == 0, "bus_open");
	must(bus_listen(bus, address, &cfg, &listener) == 0, "bus_listen");
	must(bus_link_url(listener, url, sizeof url) > 0, "bus_link_url");
}

static void
stop(void)
{
	bus_link_close(listener);
	bus_close(bus, 1000);
}

/* --- idle peers ---------------------------------------------------------------------------------------------------- */

static size_t
resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size, pages;

	must(file != NULL && fscanf(file, "%lu %lu", &size, &pages) == 2, "/proc/self/statm");
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void
join_idle(unsigned count)
{
	unsigned before = stats_of(listener).peers;
	struct raw_peer *p = malloc(sizeof *p);
	char name[BUS__BUS_ID];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof name, "idle%u", before + i);
		must(raw_open(p, url, name), "connect");
		raw_text(p, BUS__FRAME_SUB, 0, name);
		must(raw_ready(p), "send");
		while (stats_of(listener).peers < before + i + 1)
			nap(50000);
	}
	free(p); /* the descriptors stay open until the process ends */
}

static void
measure_idle(void)
{
	struct mallinfo2 heap;
	size_t before;

	start("tcp://127.0.0.1:0");
	join_idle(WARM);
	nap(200000000);
	heap = mallinfo2();
	before = resident();
	join_idle(PEERS);
	nap(200000000);
	printf("idle tcp peer with one filter, resident\t%.2f KiB\n",
	    (double)(resident() - before) / PEERS / 1024);
	printf("the same, heap with what was not touched\t%.2f KiB\n",
	    ((double)mallinfo2().uordblks + (double)mallinfo2().hblkhd - (double)heap.uordblks -
		(double)heap.hblkhd) /
		PEERS / 1024);
	printf("the same, of it by malloc from pages of its own\t%.2f KiB\n",
	    ((double)mallinfo2().hblkhd - (double)heap.hblkhd) / PEERS / 1024);
	stop();
}

/* --- handshakes ---------------------------------------------------------------------------------------------------- */

/* Filters that match 1 topic or 100, or (wide) each all of them. */
static bool wide;

static const char *
topic_name(unsigned i)
{
	static char name[64];

	if (wide)
		snprintf(name, sizeof name, "0/1/2/3/4/5/6/7/8/9/a/b/c/d/%u", i);
	else
		snprintf(name, sizeof name, "site/%u/temp/%u", i / 100, i % 100);
	return name;
}

static const char *
filter_name(unsigned i)
{
	static char name[64];
	static const char digits[] = "0123456789abcd";

	if (wide) {
		for (unsigned bit = 0; bit < 14; bit++) {
			name[2 * bit] = i >> bit & 1 ? '+' : digits[bit];
			name[2 * bit + 1] = '/';
		}
		strcpy(name + 28, "#");
	} else if (i < 100) {
		snprintf(name, sizeof name, "site/+/temp/%u", i);
	} else {
		snprintf(name, sizeof name, "site/%u/+/%u", i / 100, i % 100);
	}
	return name;
}

static _Atomic bool over;

/* How the hostile one passes its time when it has joined. */
enum manner { STAYS, COMES_AGAIN, CHANGES };

static bool
ask_for_all(struct raw_peer *p)
{
	bool ok = raw_open(p, url, "hostile");

	for (unsigned i = 0; ok && i < TOPICS; i++)
		ok = raw_text(p, BUS__FRAME_TOPIC, i, topic_name(i)) &&
		     raw_message(p, i, BUS_MSG_RETAIN, 0, "0123456789abcdef", 16);
	for (unsigned i = 0; ok && i < FILTERS; i++)
		ok = raw_text(p, BUS__FRAME_SUB, 0, filter_name(i));
	return ok && raw_ready(p);
}

/* Takes what the bus has to say, and throws it away. */
static void
swallow(struct raw_peer *p)
{
	uint8_t bytes[65536];

	while (recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
}

static void *
be_hostile(void *arg)
{
	enum manner manner = *(enum manner *)arg;
	struct raw_peer *p = malloc(sizeof *p);
	unsigned i = 0;
	bool ok = false;

	while (!atomic_load(&over)) {
		if (!ok && !(ok = ask_for_all(p)))
			nap(1000000);
		swallow(p);
		if (ok && manner == CHANGES) {
			i = (i + 1) % FILTERS;
			ok = raw_text(p, BUS__FRAME_UNSUB, 0, filter_name(i)) &&
			     raw_text(p, BUS__FRAME_SUB, 0, filter_name(i)) && raw_flush(p);
		} else {
			nap(1000000);
		}
		if ((!ok || manner == COMES_AGAIN) && p->fd >= 0) {
			close(p->fd);
			ok = false;
		}
	}
	close(p->fd);
	free(p);
	return NULL;
}

static int
compare(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return l < r ? -1 : l > r;
}

static double
shake_hands(unsigned i)
{
	static struct raw_peer p;
	uint8_t bytes[4096];
	char name[BUS__BUS_ID];
	int64_t began = now_ns();
	size_t have = 0;
	ssize_t n;

	snprintf(name, sizeof name, "honest%u", i);
	must(raw_open(&p, url, name), "connect");
	raw_text(&p, BUS__FRAME_SUB, 0, "honest");
	must(raw_ready(&p), "send");
	/* READY is the last frame of the answer, and nothing else is for this peer. */
	while (have < BUS__PREAMBLE + BUS__FRAME_HEAD + BUS__HELLO + BUS__FRAME_HEAD + BUS__RESUME +
			  BUS__FRAME_HEAD + BUS__START + BUS__FRAME_HEAD) {
		n = recv(p.fd, bytes, sizeof bytes, 0);
		must(n > 0, "the bus closed the connection of an honest peer");
		have += (size_t)n;
	}
	close(p.fd);
	return (double)(now_ns() - began) / 1e6;
}

static void
measure_handshakes(const char *what, int manner)
{
	static double took[HANDSHAKES];
	enum manner how = manner < 0 ? STAYS : (enum manner)manner;
	pthread_t hostile;

	start("ipc:///tmp/bench-peers-socket");
	atomic_store(&over, false);
	if (manner >= 0)
		must(pthread_create(&hostile, NULL, be_hostile, &how) == 0, "pthread_create");
	nap(300000000);
	for (unsigned i = 0; i < HANDSHAKES; i++) {
		took[i] = shake_hands(i);
		nap(1000000);
	}
	atomic_store(&over, true);
	if (manner >= 0)
		pthread_join(hostile, NULL);
	qsort(took, HANDSHAKES, sizeof *took, compare);
	printf("handshake %s: p50, p99, longest\t%.2f ms\t%.2f ms\t%.2f ms\n", what,
	    took[HANDSHAKES / 2], took[HANDSHAKES * 99 / 100], took[HANDSHAKES - 1]);
	stop();
}

int
main(int argc, char **argv)
{
	bool idle = argc < 2 || strcmp(argv[1], "idle") == 0;
	bool hostile = argc < 2 || strcmp(argv[1], "hostile") == 0;
	bool handshakes = argc < 2 || strcmp(argv[1], "handshakes") == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (idle)
		measure_idle();
	if (hostile)
		measure_hostile();
	if (!handshakes)
		return 0;
	measure_handshakes("alone", -1);
	for (int i = 0; i < 2; i++) {
		wide = i == 1;
		printf("beside a peer with 10,000 values and 9,000 filters, %s:\n",
		    wide ? "each of which matches all" : "which match 1 to 100 of them");
		measure_handshakes("while that stays", STAYS);
		measure_handshakes("while that changes its filters", CHANGES);
		measure_handshakes("while that goes and comes again", COMES_AGAIN);
	}
	return 0;
}
