/* bench/tls.c: what TLS costs: the engine beside mbedTLS alone, which moves the same records through memory; an idle peer; and the
 * round trip of an honest link beside a client that starts handshakes as fast as one core can. `./dev bench tls [engine|idle|beside]`.
 *
 * The two sides of a row take turns, and a ratio is the median of the rounds. */
#include <malloc.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/cert.h>
#include <libbus/transport.h>

#include "base/mem.h"
#include "crypto/tls_parts.h"

enum { ROUNDS = 5, IDLE_WARM = 20, IDLE_PEERS = 100, TRIPS = 4000 };

static void
must_at(bool fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "bench_tls: %s: %s\n", what, bus_error_text());
	exit(1);
}

#define must(condition) must_at(condition, #condition)

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *values, size_t count)
{
	qsort(values, count, sizeof *values, compare);
	return values[count / 2];
}

/* --- the engine ------------------------------------------------------------------------------------------------------------------- */

static struct bus__tls_config *configs[2]; /* listening, dialling */

/* mbedTLS alone: each end has what the other wrote. */
struct bare {
	mbedtls_ssl_context ssl;
	struct bare *other;
	unsigned char in[64 * 1024];
	size_t at, len;
};

static int
bare_put(void *arg, const unsigned char *data, size_t len)
{
	struct bare *to = ((struct bare *)arg)->other;

	if (to->at == to->len)
		to->at = to->len = 0;
	must(to->len + len <= sizeof to->in);
	memcpy(to->in + to->len, data, len);
	to->len += len;
	return (int)len;
}

static int
bare_take(void *arg, unsigned char *data, size_t len)
{
	struct bare *bare = arg;
	size_t n = bare->len - bare->at < len ? bare->len - bare->at : len;

	if (n == 0)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(data, bare->in + bare->at, n);
	bare->at += n;
	return (int)n;
}

static struct bare bares[2];

static void
bare_open(void)
{
	int done[2] = {1, 1};

	for (int i = 0; i < 2; i++) {
		struct bare *bare = &bares[i];

		bare->other = &bares[1 - i];
		bare->at = bare->len = 0;
		mbedtls_ssl_init(&bare->ssl);
		must(mbedtls_ssl_setup(&bare->ssl, &configs[i]->conf) == 0);
		mbedtls_ssl_set_bio(&bare->ssl, bare, bare_put, bare_take, NULL);
	}
	must(mbedtls_ssl_set_hostname(&bares[1].ssl, "localhost") == 0);
	while (done[0] != 0 || done[1] != 0)
		for (int i = 1; i >= 0; i--)
			if (done[i] != 0)
				done[i] = mbedtls_ssl_handshake(&bares[i].ssl);
}

static void
bare_close(void)
{
	for (int i = 0; i < 2; i++)
		mbedtls_ssl_free(&bares[i].ssl);
}

static unsigned char record[16384], heard[16384];

static double
bare_records(size_t len, unsigned count)
{
	double begin;

	bare_open();
	begin = now_s();
	for (unsigned i = 0; i < count; i++) {
		must(mbedtls_ssl_write(&bares[1].ssl, record, len) == (int)len);
		must(mbedtls_ssl_read(&bares[0].ssl, heard, len) == (int)len);
	}
	begin = now_s() - begin;
	bare_close();
	return count / begin;
}

static double
bare_handshakes(size_t len, unsigned count)
{
	double begin = now_s();

	(void)len;
	for (unsigned i = 0; i < count; i++) {
		bare_open();
		bare_close();
	}
	return count / (now_s() - begin);
}

static struct bus__tls *ends[2];

static void
engine_open(void)
{
	void *in[2] = {NULL, NULL};
	size_t len[2] = {0, 0};
	int state[2] = {0, 0};

	for (int i = 0; i < 2; i++)
		must(bus__tls_new(configs[i], i == 1 ? "localhost" : NULL, &ends[i]) == 0);
	while (state[0] != 1 || state[1] != 1)
		for (int i = 1; i >= 0; i--) {
			bus__tls_feed(ends[i], in[i], len[i]);
			state[i] = bus__tls_handshake(ends[i]);
			must(state[i] >= 0 && bus__tls_unread(ends[i]) == 0);
			bus__free(in[i]);
			in[i] = NULL;
			len[i] = 0;
			if (bus__tls_has_output(ends[i]))
				in[1 - i] = bus__tls_take(ends[i], &len[1 - i]);
		}
	bus__free(in[0]);
	bus__free(in[1]);
}

static void
engine_close(void)
{
	bus__tls_free(ends[0]);
	bus__tls_free(ends[1]);
}

static double
engine_records(size_t len, unsigned count)
{
	double begin;

	engine_open();
	begin = now_s();
	for (unsigned i = 0; i < count; i++) {
		size_t out;
		void *data;

		must(bus__tls_write(ends[1], record, len) == (long)len);
		data = bus__tls_take(ends[1], &out);
		bus__tls_feed(ends[0], data, out);
		must(bus__tls_read(ends[0], heard, len) == (long)len);
		bus__free(data);
	}
	begin = now_s() - begin;
	engine_close();
	return count / begin;
}

static double
engine_handshakes(size_t len, unsigned count)
{
	double begin = now_s();

	(void)len;
	for (unsigned i = 0; i < count; i++) {
		engine_open();
		engine_close();
	}
	return count / (now_s() - begin);
}

static const struct row {
	const char *what, *unit;
	double (*engine)(size_t len, unsigned count), (*bare)(size_t len, unsigned count);
	size_t len;
	unsigned count;
	double scale, bar;
} rows[] = {
    {"records of 16 KiB", "MB/s", engine_records, bare_records, 16384, 2000, 16384e-6, 0.8},
    {"records of 256 B", "MB/s", engine_records, bare_records, 256, 60000, 256e-6, 0.8},
    {"handshakes", "/s", engine_handshakes, bare_handshakes, 0, 60, 1, 0.7},
};

static void
run_engine(void)
{
	printf("%-22s %12s %14s %8s %6s\n", "", "engine", "mbedTLS alone", "ratio", "bar");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		double engine[ROUNDS], bare[ROUNDS], ratio[ROUNDS];

		for (int round = 0; round < ROUNDS; round++) {
			engine[round] = row->engine(row->len, row->count);
			bare[round] = row->bare(row->len, row->count);
			ratio[round] = engine[round] / bare[round];
		}
		printf("%-22s %8.0f %-4s %9.0f %-4s %7.2f %6.2f\n", row->what,
		    median(engine, ROUNDS) * row->scale, row->unit,
		    median(bare, ROUNDS) * row->scale, row->unit, median(ratio, ROUNDS), row->bar);
	}
}

/* --- links ------------------------------------------------------------------------------------------------------------------------ */

/* A heartbeat would be traffic. */
static const struct bus_link_config quiet = {.size = sizeof quiet, .heartbeat_ms = 3600000};

static struct bus *
new_bus(void)
{
	struct bus *bus;

	must(bus_open(NULL, NULL, &bus) == 0);
	return bus;
}

static uint32_t
peers_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	must(bus_link_stats(link, &stats) == 0);
	return stats.peers;
}

static size_t
resident(void)
{
	unsigned long size, pages;
	FILE *file = fopen("/proc/self/statm", "r");

	must(file != NULL && fscanf(file, "%lu %lu", &size, &pages) == 2);
	fclose(file);
	return pages * 4096;
}

static void
idle_clients(int from)
{
	struct bus *buses[IDLE_PEERS + IDLE_WARM];
	char url[256];
	int count, made = 0;

	while (read(from, &count, sizeof count) == sizeof count) {
		must(read(from, url, sizeof url) == sizeof url);
		for (int i = 0; i < count; i++) {
			buses[made] = new_bus();
			must(bus_dial(buses[made++], url, &quiet, NULL) == 0);
		}
	}
	_exit(0);
}

static void
run_idle(const char *scheme)
{
	char url[256] = "";
	struct bus_link *link;
	struct bus *bus;
	int pipes[2], steps[] = {IDLE_WARM, IDLE_PEERS}, sum = 0;
	size_t before[2] = {0, 0}, after[2] = {0, 0};
	pid_t child;

	must(pipe(pipes) == 0);
	child = fork();
	if (child == 0) {
		close(pipes[1]);
		idle_clients(pipes[0]);
	}
	bus = new_bus();
	snprintf(url, sizeof url, "%s://127.0.0.1:0", scheme);
	must(bus_listen(bus, url, &quiet, &link) == 0 && bus_link_url(link, url, sizeof url) > 0);
	for (int step = 0; step < 2; step++) {
		before[0] = mallinfo2().uordblks;
		before[1] = resident();
		sum += steps[step];
		must(write(pipes[1], &steps[step], sizeof steps[step]) > 0);
		must(write(pipes[1], url, sizeof url) > 0);
		while (peers_of(link) < (uint32_t)sum)
			usleep(1000);
		usleep(1500000); /* buffers that grew go after a second */
		after[0] = mallinfo2().uordblks;
		after[1] = resident();
	}
	printf("an idle %s peer: %.1f KiB of memory, %.1f KiB resident\n", scheme,
	    (double)(after[0] - before[0]) / 1024 / IDLE_PEERS,
	    (double)(after[1] - before[1]) / 1024 / IDLE_PEERS);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	bus_close(bus, 0);
}

/* --- beside handshakes -------------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned pongs;

static void
pong(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
	pongs++;
}

static void
answer(void *bus, const struct bus_msg *msg)
{
	(void)msg;
	bus_publish(bus, "pong", "", 0);
}

static void
be_honest(int from)
{
	struct bus *bus = new_bus();
	char url[256];

	must(read(from, url, sizeof url) == sizeof url);
	must(bus_subscribe(bus, "ping", answer, bus, NULL) == 0);
	must(bus_dial(bus, url, &quiet, NULL) == 0);
	for (;;)
		pause();
}

/* Handshakes one after the other, as fast as this core computes them. */
static void
be_greedy(int from)
{
	char url[256];
	unsigned char bytes[8192];
	cpu_set_t core = {0};

	CPU_SET(0, &core);
	must(sched_setaffinity(0, sizeof core, &core) == 0);
	must(read(from, url, sizeof url) == sizeof url);
	for (;;) {
		struct sockaddr_in in = {.sin_family = AF_INET,
		    .sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1)),
		    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct bus__tls *tls;
		ssize_t n = 0;

		must(connect(fd, (struct sockaddr *)&in, sizeof in) == 0);
		must(bus__tls_new(configs[1], "localhost", &tls) == 0);
		while (n >= 0 && bus__tls_handshake(tls) == 0) {
			size_t len;
			void *out = bus__tls_take(tls, &len);

			n = out != NULL ? send(fd, out, len, MSG_NOSIGNAL) : 0;
			bus__free(out);
			n = recv(fd, bytes, sizeof bytes, 0);
			if (n <= 0)
				break;
			bus__tls_feed(tls, bytes, (size_t)n);
		}
		bus__tls_free(tls);
		close(fd);
	}
}

/* What such a client takes of this machine alone, which a real one has for itself: its core. */
static void
be_busy(int from)
{
	cpu_set_t core = {0};
	char url[256];

	CPU_SET(0, &core);
	must(sched_setaffinity(0, sizeof core, &core) == 0);
	must(read(from, url, sizeof url) == sizeof url);
	for (;;)
		bare_handshakes(0, 1);
}

static pid_t
start(void (*what)(int from), int *ret_to)
{
	int pipes[2];
	pid_t child;

	must(pipe(pipes) == 0);
	child = fork();
	if (child == 0)
		what(pipes[0]);
	*ret_to = pipes[1];
	return child;
}

static double
measure(struct bus *bus, double *ret_median)
{
	static double trips[TRIPS];

	for (int i = 0; i < TRIPS; i++) {
		unsigned before = pongs;
		double begin = now_s();

		must(bus_publish(bus, "ping", "", 0) == 0);
		while (pongs == before)
			usleep(20);
		trips[i] = now_s() - begin;
		usleep(200);
	}
	*ret_median = median(trips, TRIPS);
	return trips[TRIPS * 99 / 100];
}

static void
run_beside(void)
{
	char honest_url[256] = "tcp://127.0.0.1:0", greedy_url[256] = "tls://127.0.0.1:0";
	struct bus_link *honest, *greedy;
	int to_honest, to_busy, to_greedy;
	pid_t children[3] = {
	    start(be_honest, &to_honest), start(be_busy, &to_busy), start(be_greedy, &to_greedy)};
	struct bus *bus = new_bus();
	double p50[3], p99[3];
	struct bus_link_stats stats = {.size = sizeof stats};
	double begin;

	must(bus_listen(bus, honest_url, &quiet, &honest) == 0);
	must(bus_listen(bus, greedy_url, &quiet, &greedy) == 0);
	must(bus_link_url(honest, honest_url, sizeof honest_url) > 0);
	must(bus_link_url(greedy, greedy_url, sizeof greedy_url) > 0);
	must(bus_subscribe(bus, "pong", pong, NULL, NULL) == 0);
	must(write(to_honest, honest_url, sizeof honest_url) > 0);
	while (pongs == 0) {
		bus_publish(bus, "ping", "", 0);
		usleep(1000);
	}
	p99[0] = measure(bus, &p50[0]);
	must(write(to_busy, greedy_url, sizeof greedy_url) > 0);
	usleep(200000);
	p99[1] = measure(bus, &p50[1]);
	kill(children[1], SIGKILL);
	must(write(to_greedy, greedy_url, sizeof greedy_url) > 0);
	usleep(200000);
	begin = now_s();
	p99[2] = measure(bus, &p50[2]);
	begin = now_s() - begin;
	must(bus_link_stats(greedy, &stats) == 0);
	printf("round trip of an honest tcp link: p50 %.0f us, p99 %.0f us\n", p50[0] * 1e6,
	    p99[0] * 1e6);
	printf("with one core busy:               p50 %.0f us, p99 %.0f us\n", p50[1] * 1e6,
	    p99[1] * 1e6);
	printf(
	    "with that core making handshakes: p50 %.0f us, p99 %.0f us (%.2f times, bar 2; %.0f handshakes/s)\n",
	    p50[2] * 1e6, p99[2] * 1e6, p99[2] / p99[1],
	    (double)(stats.ended[BUS_LINK_END_GONE]) / begin);
	for (int i = 0; i < 3; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	bus_close(bus, 0);
}

/* ------------------------------------------------------------------------------------------------------------------------------------ */

/* In a process of its own: NNG does not outlive a fork. */
static void
alone(void (*run)(const char *scheme), const char *scheme)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		run(scheme);
		fflush(stdout);
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child && status == 0);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const char *const names[] = {"localhost", "127.0.0.1"};
	char reason[BUS__TLS_REASON];
	char dir[] = "/tmp/libbus-bench-XXXXXX", folder[64], paths[3][96];

	must(mkdtemp(dir) != NULL);
	snprintf(folder, sizeof folder, "%s/libbus", dir);
	must(setenv("XDG_CONFIG_HOME", dir, 1) == 0);
	must(bus_cert_server(NULL, names, 2, 30) == 0);
	snprintf(paths[0], sizeof paths[0], "%s/ca.pem", folder);
	snprintf(paths[1], sizeof paths[1], "%s/server.pem", folder);
	snprintf(paths[2], sizeof paths[2], "%s/server-key.pem", folder);
	must(bus__tls_config_new(
		 &(struct bus__tls_settings){.cert_file = paths[1], .key_file = paths[2]},
		 &configs[0], reason) == 0);
	must(bus__tls_config_new(&(struct bus__tls_settings){.dials = true, .ca_file = paths[0]},
		 &configs[1], reason) == 0);
	if (what[0] == '\0' || strcmp(what, "engine") == 0)
		run_engine();
	if (what[0] == '\0' || strcmp(what, "idle") == 0) {
		alone(run_idle, "tcp");
		alone(run_idle, "tls");
	}
	if (what[0] == '\0' || strcmp(what, "beside") == 0)
		run_beside();
	snprintf(folder, sizeof folder, "rm -r %s", dir);
	return system(folder) != 0;
}
