/* wire_choice: what NNG's sockets and its byte streams do on this machine, side by side.
 * Prints the tables of docs/transports.md. It measures NNG alone, libbus is not in it.
 *
 *   wire_choice [speed] [rtt] [burst] [close] [limits]      all of them without arguments, 90 s
 *
 * Contenders take turns within each round, so that other work on the machine meets all of them; ratios
 * are taken inside a round. Loopback only. */
#include "lab.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nng/protocol/pair0/pair.h>

enum {
	ROUNDS = 5,
	WINDOW_US = 250000, /* one contender's turn */
	GATHER = 64 * 1024, /* as much as a link of libbus puts into one send */
	BURST = 10000,
	CLOSES = 1000,
	HUNG_MS = 5000,
	CLOSE_RUNS = 2,
	RECV_BYTES = 256 * 1024,
};

struct contender {
	const char *name;
	const struct wire_kind *kind;
	bool gathers;
};

static const struct contender pair_single = {"pair socket, a call each", &wire_pair, false};
static const struct contender pair_gathered = {"pair socket, gathered", &wire_pair, true};
static const struct contender stream_gathered = {"byte stream, gathered", &wire_stream, true};
static const struct contender stream_single = {"byte stream, a call each", &wire_stream, false};
static const char *const transports[] = {"ipc", "tcp"};

/* What both ends of an experiment are told. */
struct setting {
	const struct contender *who;
	const char *url;
	size_t size; /* of one message, its header included */
};

/* Every message on every wire: its length first, as a byte stream needs it. */
struct head {
	uint32_t len;
	uint32_t serial; /* 0: warming up */
};

static void
must(int err)
{
	if (err == 0)
		return;
	fprintf(stderr, "wire_choice: %s\n", nng_strerror(err));
	_exit(2);
}

static struct wire
listening(const struct setting *set)
{
	struct wire wire = {.kind = set->who->kind};
	int port;

	must(wire.kind->listen(&wire, set->url, &port));
	if (port != 0)
		snprintf(lab_page->url, LAB_URL_BYTES, "tcp://127.0.0.1:%d", port);
	else
		snprintf(lab_page->url, LAB_URL_BYTES, "%s", set->url);
	atomic_store(&lab_page->listening, true);
	must(wire.kind->accept(&wire));
	return wire;
}

static struct wire
dialled(const struct setting *set)
{
	struct wire wire = {.kind = set->who->kind};

	while (!atomic_load(&lab_page->listening))
		lab_nap_us(500);
	must(wire.kind->dial(&wire, lab_page->url));
	return wire;
}

/* Runs both ends and returns what page->result holds after them. A stalled end leaves 0. */
static double
run_both(
    void (*listener)(void *), void (*dialler)(void *), struct setting *set, const char *transport)
{
	char url[LAB_URL_BYTES];
	pid_t far, near;

	lab_begin(transport, url);
	set->url = url;
	far = lab_spawn(listener, set);
	near = lab_spawn(dialler, set);
	lab_wait(near, HUNG_MS);
	lab_kill(far);
	return lab_page->result;
}

/* --- messages per second ---------------------------------------------------------------------------- */

/* Copies messages one by one, as they would come from a queue, and sends full buffers. */
static void
flood(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = listening(set);
	static char buf[GATHER], message[4096];
	size_t len = set->who->gathers ? GATHER / set->size * set->size : set->size;
	struct head head = {.len = (uint32_t)set->size};

	for (;;) {
		for (size_t at = 0; at < len; at += set->size) {
			head.serial++;
			memcpy(message, &head, sizeof head);
			memcpy(buf + at, message, set->size);
		}
		if (wire.kind->send(&wire, buf, len) != 0)
			must(wire.kind->accept(&wire));
	}
}

/* Walks the messages that are whole and moves the rest to the front. */
static unsigned long
count_messages(char *buf, size_t *len, bool warm_up_too)
{
	struct head head;
	unsigned long count = 0;
	size_t at = 0;

	while (*len - at >= sizeof head) {
		memcpy(&head, buf + at, sizeof head);
		if (*len - at < head.len)
			break;
		at += head.len;
		count += warm_up_too || head.serial != 0;
	}
	memmove(buf, buf + at, *len - at);
	*len -= at;
	return count;
}

static void
drain(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = dialled(set);
	static char buf[RECV_BYTES];
	unsigned long count = 0;
	size_t len = wire.kind->recv(&wire, buf, sizeof buf);
	int64_t start = lab_now_us(), now;

	do {
		count += count_messages(buf, &len, true);
		len += wire.kind->recv(&wire, buf + len, sizeof buf - len);
		now = lab_now_us();
	} while (now - start < WINDOW_US);
	lab_page->result = (double)count / (double)(now - start) * 1e3;
}

static void
measure_speed(void)
{
	static const struct contender *const who[] = {
	    &pair_single, &pair_gathered, &stream_gathered};
	static const size_t sizes[] = {64, 256};
	struct lab_series rate[2][2][3] = {0}, ratio[2][2][2] = {0};

	for (int round = 0; round < ROUNDS; round++)
		for (int t = 0; t < 2; t++)
			for (int s = 0; s < 2; s++) {
				double got[3];

				for (int w = 0; w < 3; w++) {
					got[w] = run_both(flood, drain,
					    &(struct setting){who[w], NULL, sizes[s]},
					    transports[t]);
					lab_add(&rate[t][s][w], got[w]);
				}
				lab_add(&ratio[t][s][0], got[2] / got[0]);
				lab_add(&ratio[t][s][1], got[2] / got[1]);
			}

	printf("Thousand messages a second, one way:\n\n"
	       "| | %s | %s | %s | stream : a call each | stream : pair gathered |\n"
	       "|---|---|---|---|---|---|\n",
	    who[0]->name, who[1]->name, who[2]->name);
	for (int t = 0; t < 2; t++)
		for (int s = 0; s < 2; s++) {
			printf("| %s, %zu B", transports[t], sizes[s]);
			for (int w = 0; w < 3; w++)
				printf(" | %s", lab_text(&rate[t][s][w], 0));
			for (int r = 0; r < 2; r++)
				printf(" | × %s", lab_text(&ratio[t][s][r], r ? 1 : 0));
			printf(" |\n");
		}
	printf("\n");
}

/* --- round trips ------------------------------------------------------------------------------------ */

static bool
recv_all(struct wire *wire, char *buf, size_t want)
{
	for (size_t got = 0, len; got < want; got += len) {
		len = wire->kind->recv(wire, buf + got, want - got);
		if (len == 0)
			return false;
	}
	return true;
}

static void
echo(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = listening(set);
	char buf[4096];

	while (recv_all(&wire, buf, set->size))
		must(wire.kind->send(&wire, buf, set->size));
}

/* Reports the median of its own round trips; the first tenth warms up. */
static void
ping(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = dialled(set);
	char buf[4096] = {0};
	static unsigned trips[WINDOW_US / 1000 * 1000]; /* by microsecond: a histogram */
	unsigned long count = 0, below = 0;
	int64_t start = lab_now_us(), before, now;
	size_t us = 0;

	do {
		before = lab_now_us();
		must(wire.kind->send(&wire, buf, set->size));
		if (!recv_all(&wire, buf, set->size))
			return;
		now = lab_now_us();
		if (now - start < WINDOW_US / 10)
			continue;
		if ((size_t)(now - before) < sizeof trips / sizeof trips[0])
			trips[now - before]++;
		count++;
	} while (now - start < WINDOW_US);
	for (us = 0; below + trips[us] <= count / 2; us++)
		below += trips[us];
	lab_page->result = (double)us;
}

static void
measure_rtt(void)
{
	static const struct contender *const who[] = {&pair_single, &stream_single};
	struct lab_series trip[2][2] = {0}, ratio[2] = {0};

	for (int round = 0; round < ROUNDS; round++)
		for (int t = 0; t < 2; t++) {
			double got[2];

			for (int w = 0; w < 2; w++) {
				got[w] = run_both(
				    echo, ping, &(struct setting){who[w], NULL, 64}, transports[t]);
				lab_add(&trip[t][w], got[w]);
			}
			lab_add(&ratio[t], got[1] / got[0]);
		}

	printf("Round trip of 64 B, median of each round, in µs:\n\n"
	       "| | pair socket | byte stream | stream : pair |\n|---|---|---|---|\n");
	for (int t = 0; t < 2; t++)
		printf("| %s | %s | %s | × %s |\n", transports[t], lab_text(&trip[t][0], 0),
		    lab_text(&trip[t][1], 0), lab_text(&ratio[t], 2));
	printf("\n");
}

/* --- a burst ---------------------------------------------------------------------------------------- */

static void
send_burst(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = listening(set);
	char message[4096] = {0};
	struct head head = {.len = (uint32_t)set->size};

	while (!atomic_load(&lab_page->receiving)) {
		memcpy(message, &head, sizeof head);
		must(wire.kind->send(&wire, message, set->size));
		lab_nap_us(1000);
	}
	for (head.serial = 1; head.serial <= BURST; head.serial++) {
		memcpy(message, &head, sizeof head);
		if (wire.kind->send(&wire, message, set->size) != 0)
			atomic_fetch_add(&lab_page->failed, 1);
	}
	pause();
}

/* Counts until half a second is silent. */
static void
recv_burst(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = dialled(set);
	static char buf[RECV_BYTES];
	unsigned long count = 0;
	size_t len = 0, more;

	while ((more = wire.kind->recv(&wire, buf + len, sizeof buf - len)) > 0) {
		atomic_store(&lab_page->receiving, true);
		len += more;
		count += count_messages(buf, &len, false);
	}
	lab_page->result = (double)count;
}

static void
measure_burst(void)
{
	static const struct contender who[] = {
	    {"PUB/SUB, buffers as shipped", &wire_pubsub, false},
	    {"PUB/SUB, buffers of 8192", &wire_pubsub_8192, false},
	    {"byte stream, a call each", &wire_stream, false},
	};
	struct lab_series lost[3][2] = {0};
	unsigned long failed[3] = {0};

	for (int round = 0; round < ROUNDS; round++)
		for (int t = 0; t < 2; t++)
			for (int w = 0; w < 3; w++) {
				double got = run_both(send_burst, recv_burst,
				    &(struct setting){&who[w], NULL, 64}, transports[t]);

				lab_add(&lost[w][t], 100.0 - got * 100.0 / BURST);
				failed[w] += atomic_load(&lab_page->failed);
			}

	printf("Lost of a burst of 10,000 × 64 B, in per cent:\n\n"
	       "| | ipc | tcp | sends that reported an error |\n|---|---|---|---|\n");
	for (int w = 0; w < 3; w++)
		printf("| %s | %s | %s | %lu |\n", who[w].name, lab_text(&lost[w][0], 1),
		    lab_text(&lost[w][1], 1), failed[w]);
	printf("\n");
}

/* --- closing while messages flow ---------------------------------------------------------------------- */

static void
close_often(void *arg)
{
	const struct setting *set = arg;
	static char buf[RECV_BYTES];

	while (atomic_load(&lab_page->done) < CLOSES) {
		struct wire wire = dialled(set);

		/* A new connection that stays silent is no close that hangs: try the next. */
		if (wire.kind->recv(&wire, buf, sizeof buf) == 0)
			atomic_fetch_add(&lab_page->failed, 1);
		atomic_store(&lab_page->stop, true);
		must(wire.kind->close(&wire));
		atomic_store(&lab_page->stop, false);
		atomic_fetch_add(&lab_page->done, 1);
	}
	lab_page->result = 1;
}

static void
measure_close(void)
{
	static const struct contender who[] = {
	    {"SUB socket, from a PUB", &wire_pubsub, false},
	    {"pair socket", &wire_pair, false},
	    {"byte stream", &wire_stream, true},
	};

	printf(
	    "Closes with messages flowing in, until one takes more than 5 s (at most 1,000; %d runs):\n\n"
	    "| | ipc | tcp |\n|---|---|---|\n",
	    CLOSE_RUNS);
	for (int w = 0; w < 3; w++) {
		printf("| %s", who[w].name);
		for (int t = 0; t < 2; t++)
			for (int run = 0; run < CLOSE_RUNS; run++) {
				double all = run_both(flood, close_often,
				    &(struct setting){&who[w], NULL, 256}, transports[t]);
				unsigned long done = atomic_load(&lab_page->done);

				printf(run ? ", " : " | ");
				if (all != 0)
					printf("none in %lu", done);
				else if (atomic_load(&lab_page->stop))
					printf("hung after %lu", done);
				else
					printf("stuck before a close after %lu", done);
				if (atomic_load(&lab_page->failed) > 0)
					printf(" (%lu silent connections)",
					    atomic_load(&lab_page->failed));
			}
		printf(" |\n");
	}
	printf("\n");
}

/* --- limits: yes or no ---------------------------------------------------------------------------------- */

static void
listen_on_file(void *arg)
{
	const struct setting *set = arg;
	struct wire wire = {.kind = set->who->kind};
	const char *path = set->url + strlen("ipc://");
	struct stat st;
	int port;
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, "precious", 8) != 8)
		_exit(2);
	close(fd);
	lab_page->result = 1 + (wire.kind->listen(&wire, set->url, &port) != 0);
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		lab_page->result += 2;
}

static const char *
regular_file(const struct contender *who)
{
	static const char *const texts[] = {"no result", "replaced by a socket, no error",
	    "replaced, error", "intact, no error", "intact, error"};
	char url[LAB_URL_BYTES];
	struct setting set = {who, url, 64};

	lab_begin("ipc", url);
	lab_wait(lab_spawn(listen_on_file, &set), HUNG_MS);
	return texts[(int)lab_page->result];
}

static void
read_receive_limit(void *arg)
{
	nng_socket socket;
	size_t limit;

	(void)arg;
	must(nng_pair0_open(&socket));
	must(nng_socket_get_size(socket, NNG_OPT_RECVMAXSZ, &limit));
	lab_page->result = (double)limit;
}

static void
use_after_fork(void *arg)
{
	const struct setting *set = arg;
	struct wire parents = listening(&(struct setting){&pair_single, set->url, 64});
	struct wire childs = {.kind = set->who->kind};
	char url[LAB_URL_BYTES];
	int port, status = 0;
	pid_t child;

	(void)parents;
	snprintf(url, sizeof url, "tcp://127.0.0.1:0");
	child = fork();
	if (child == 0) {
		/* The panic text would stand in the middle of our table. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		_exit(childs.kind->listen(&childs, url, &port) != 0);
	}
	waitpid(child, &status, 0);
	lab_page->result = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 1 : 2;
}

static const char *
after_fork(const struct contender *who)
{
	static const char *const texts[] = {"hung", "yes, SIGABRT", "no"};
	char url[LAB_URL_BYTES];
	struct setting set = {who, url, 64};

	lab_begin("ipc", url);
	lab_wait(lab_spawn(use_after_fork, &set), HUNG_MS);
	return texts[(int)lab_page->result];
}

/* A stranger connects and leaves again before it has said a word; then an honest client comes. */
static void
drain_after_stranger(void *arg)
{
	const struct setting *set = arg;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct wire wire;
	char buf[4096];
	int fd;

	while (!atomic_load(&lab_page->listening))
		lab_nap_us(500);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", lab_page->url + strlen("ipc://"));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		_exit(2);
	close(fd);
	lab_nap_us(100000);
	wire = dialled(set);
	for (int tries = 0; tries < 6; tries++)
		if (wire.kind->recv(&wire, buf, sizeof buf) > 0) {
			lab_page->result = 2;
			return;
		}
	lab_page->result = 1;
}

static const char *
after_stranger(const struct contender *who)
{
	static const char *const texts[] = {"no result", "nothing in 3 s, no error", "served"};

	return texts[(int)run_both(
	    flood, drain_after_stranger, &(struct setting){who, NULL, 64}, "ipc")];
}

static void
measure_limits(void)
{
	static const struct contender pubsub = {"", &wire_pubsub, false};
	char url[LAB_URL_BYTES];

	printf("| | sockets | byte streams |\n|---|---|---|\n");
	printf("| `ipc://` listen on a regular file: the file is | %s | %s |\n",
	    regular_file(&pair_single), regular_file(&stream_single));
	lab_begin("ipc", url);
	lab_wait(lab_spawn(read_receive_limit, NULL), HUNG_MS);
	printf("| receive limit as shipped, bytes (0: none) | %.0f | the reader's own buffer |\n",
	    lab_page->result);
	printf("| a call after `fork()` aborts the child | %s | %s |\n", after_fork(&pair_single),
	    after_fork(&stream_single));
	printf("| next client after a stranger's connect and close on ipc | %s | %s |\n",
	    after_stranger(&pubsub), after_stranger(&stream_single));
	printf("\n");
}

/* --- which ---------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} experiments[] = {
    {"speed", measure_speed},
    {"rtt", measure_rtt},
    {"burst", measure_burst},
    {"close", measure_close},
    {"limits", measure_limits},
};

static bool
wanted(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc == 1;
}

int
main(int argc, char **argv)
{
	bool ran = false;

	if (!lab_open()) {
		fprintf(stderr, "wire_choice: no temporary directory: %s\n", strerror(errno));
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("NNG %d.%d.%d, %ld CPUs; median of %d rounds (least–most).\n\n", NNG_MAJOR_VERSION,
	    NNG_MINOR_VERSION, NNG_PATCH_VERSION, sysconf(_SC_NPROCESSORS_ONLN), ROUNDS);
	for (size_t i = 0; i < sizeof experiments / sizeof experiments[0]; i++)
		if (wanted(argc, argv, experiments[i].name)) {
			experiments[i].run();
			ran = true;
		}
	if (!ran)
		fprintf(stderr, "usage: wire_choice [speed] [rtt] [burst] [close] [limits]\n");
	lab_close();
	return ran ? 0 : 2;
}
