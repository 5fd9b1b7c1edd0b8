/* bench/hostile.c: the round trip between two honest buses over tcp, alone and beside 5,000 connections that never join, and the CPU time of
 * a link with nothing to do. Linux. `./dev bench peers hostile`.
 *
 * Each hostile connection sends the preamble, then a byte now and then, and is opened again when the listener has ended it. The hostile
 * side is a process of its own, so that the listener alone pays for it in this one. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "hostile.h"

enum { HOSTILE = 5000, TRIPS = 20000, TRIP_EVERY_US = 200, EACH_S = 2, IDLE_S = 10 };

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_peers: %s: %s\n", what, bus_error_text());
	exit(1);
}

static double
now_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* --- the hostile side ------------------------------------------------------------------------------------------- */

static int
open_one(const struct sockaddr_in *addr)
{
	static const uint8_t preamble[] = {0xb5, 'l', 'i', 'b', 'b', 'u', 's', 2};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if ((connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 &&
		errno != EINPROGRESS) ||
	    (send(fd, preamble, sizeof preamble, MSG_NOSIGNAL) < 0 && errno != EAGAIN)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
be_hostile(const struct sockaddr_in *addr, int ready)
{
	static int fds[HOSTILE];
	unsigned opened = 0;
	uint8_t byte = 1;

	memset(fds, 0xff, sizeof fds);
	for (unsigned i = 0;; i = (i + 1) % HOSTILE) {
		if (fds[i] >= 0 && send(fds[i], &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    errno != EAGAIN) {
			close(fds[i]);
			fds[i] = -1;
		}
		if (fds[i] < 0)
			fds[i] = open_one(addr);
		if (++opened == HOSTILE && write(ready, "", 1) != 1)
			_exit(1);
		/* All of them in EACH_S seconds. */
		usleep(opened < HOSTILE ? 50 : EACH_S * 1000000 / HOSTILE);
	}
}

/* --- the honest ones ----------------------------------------------------------------------------------------------- */

static void
echo(void *arg, const struct bus_msg *msg)
{
	bus_publish(arg, "pong", msg->data, msg->len);
}

static void
be_echo(const char *url)
{
	const struct bus_link_config cfg = {.size = sizeof cfg};
	struct bus_link *link;
	struct bus *bus;

	must(bus_open(NULL, NULL, &bus) == 0 && bus_subscribe(bus, "ping", echo, bus, NULL) == 0 &&
		 bus_dial(bus, url, &cfg, &link) == 0,
	    "the echo");
	for (;;)
		pause();
}

static pid_t
begin_child(void)
{
	pid_t child = fork();

	must(child >= 0, "fork");
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
measure_trips(struct bus *bus, struct bus_mailbox *pongs, const char *what, double *ret_p99)
{
	static double took[TRIPS];
	const struct bus_msg *msg;

	for (int i = 0; i < TRIPS; i++) {
		double begun = now_us(CLOCK_MONOTONIC);

		must(bus_publish(bus, "ping", &i, sizeof i) == 0, "publish");
		must(bus_recv(pongs, 10000, &msg) == 1, "no answer within 10 s");
		took[i] = now_us(CLOCK_MONOTONIC) - begun;
		usleep(TRIP_EVERY_US);
	}
	qsort(took, TRIPS, sizeof *took, compare);
	*ret_p99 = took[TRIPS / 100 * 99];
	printf(
	    "round trip over tcp %s: p50 %.0f us, p99 %.0f us\n", what, took[TRIPS / 2], *ret_p99);
}

static void
measure_idle(void)
{
	double begun = now_us(CLOCK_PROCESS_CPUTIME_ID);

	sleep(IDLE_S);
	printf("an idle link: %.4f %% of a core (bar 0.05)\n",
	    (now_us(CLOCK_PROCESS_CPUTIME_ID) - begun) / IDLE_S / 1e6 * 100);
}

void
measure_hostile(void)
{
	struct rlimit files = {.rlim_cur = 0};
	struct bus_link_config cfg = {.size = sizeof cfg, .max_peers = HOSTILE + 100};
	struct sockaddr_in addr = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct bus_mailbox *pongs;
	struct bus_link *link;
	struct bus *bus;
	char url[64];
	double alone, beside;
	pid_t echoing, hostile;
	int ready[2];
	char byte;

	must(getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max > 2 * HOSTILE,
	    "descriptors: ulimit -Hn");
	files.rlim_cur = files.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &files) == 0 && pipe(ready) == 0, "descriptors");
	must(bus_open(NULL, NULL, &bus) == 0 && bus_mailbox_open(bus, NULL, &pongs) == 0 &&
		 bus_mailbox_subscribe(pongs, "pong", NULL, NULL, NULL) == 0 &&
		 bus_listen(bus, "tcp://127.0.0.1:0", &cfg, &link) == 0,
	    "the listener");
	must(bus_link_url(link, url, sizeof url) > 0, "its address");
	addr.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
	echoing = begin_child();
	if (echoing == 0)
		be_echo(url);
	for (struct bus_link_stats stats = {.size = sizeof stats}; stats.peers == 0; usleep(10000))
		must(bus_link_stats(link, &stats) == 0, "stats");
	sleep(1);
	measure_idle();
	measure_trips(bus, pongs, "alone", &alone);
	hostile = begin_child();
	if (hostile == 0)
		be_hostile(&addr, ready[1]);
	must(read(ready[0], &byte, 1) == 1, "the hostile side");
	measure_trips(bus, pongs, "beside 5,000 hostile connections", &beside);
	printf("p99 beside those: %.2f times (bar 2)\n", beside / alone);
	kill(hostile, SIGKILL);
	kill(echoing, SIGKILL);
	waitpid(hostile, NULL, 0);
	waitpid(echoing, NULL, 0);
	bus_close(bus, 0);
}
