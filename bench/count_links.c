/* bench/count_links.c: a link between two processes, whose instructions and system calls are counted and not timed.
 *
 *   bench_count_links SCHEME PAYLOAD WINDOW MESSAGES [USERS_FILE]
 *
 * SCHEME is ipc or tcp. With a file, which it makes, the link has a user and a password. The parent sends, its child receives, and neither spins: a sender whose window is full sleeps until half of
 * it has come. bench/bench.py counts for two numbers of messages; the difference is what the messages cost. */
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/access.h>
#include <libbus/bus.h>
#include <libbus/transport.h>

#define ROOM    (64 << 20) /* of a mailbox: nothing is lost */
#define WAIT_MS 600000

#define USER     "bench"
#define PASSWORD "a password of the benchmark"

struct run {
	const char *scheme, *users_file; /* NULL: no user */
	size_t payload;
	uint64_t window, messages;
	uint64_t came; /* the receiver's */
	sem_t ready, half;
	char url[128];
};

static void
check(int err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "bench_count_links: %s: %s\n", what, bus_strerror(err));
	exit(1);
}

static void
on_message(void *arg, const struct bus_msg *msg)
{
	struct run *run = arg;

	if (msg->lost > 0)
		check(BUS_E_FULL, "a message was lost");
	if (++run->came % (run->window / 2) == 0)
		sem_post(&run->half);
}

static void
receive(struct run *run)
{
	const struct bus_mailbox_config box = {.size = sizeof box, .bytes = ROOM};
	const struct bus_link_config cfg = {
	    .size = sizeof cfg, .heartbeat_ms = WAIT_MS, .users_file = run->users_file};
	struct bus_mailbox *mailbox;
	struct bus_link *link;
	struct bus *bus;
	char url[128];

	if (strcmp(run->scheme, "tcp") == 0)
		snprintf(url, sizeof url, "tcp://127.0.0.1:0");
	else
		snprintf(url, sizeof url, "ipc:///tmp/libbus-count-%ld", (long)getpid());
	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_mailbox_open(bus, &box, &mailbox), "bus_mailbox_open");
	check(bus_mailbox_subscribe(mailbox, "bench/+", on_message, run, NULL),
	    "bus_mailbox_subscribe");
	check(bus_listen(bus, url, &cfg, &link), "bus_listen");
	check(bus_link_url(link, run->url, sizeof run->url), "bus_link_url");
	sem_post(&run->ready);
	while (run->came < run->messages)
		check(bus_dispatch(mailbox, WAIT_MS, 0), "bus_dispatch");
	bus_mailbox_close(mailbox);
	bus_link_close(link);
	check(bus_close(bus, WAIT_MS), "bus_close");
}

static void
send_all(struct run *run)
{
	const struct bus_link_config cfg = {.size = sizeof cfg,
	    .bytes = ROOM,
	    .heartbeat_ms = WAIT_MS,
	    .user = run->users_file != NULL ? USER : NULL,
	    .password = run->users_file != NULL ? PASSWORD : NULL};
	struct bus_link_stats stats = {.size = sizeof stats};
	char *data = calloc(1, run->payload);
	struct bus_link *link;
	struct bus_pub *pub;
	struct bus *bus;

	check(data == NULL ? BUS_E_NOMEM : 0, "calloc");
	sem_wait(&run->ready);
	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_pub_open(bus, "bench/0", NULL, &pub), "bus_pub_open");
	check(bus_dial(bus, run->url, &cfg, &link), "bus_dial");
	while (stats.peers == 0) {
		usleep(1000);
		check(bus_link_stats(link, &stats), "bus_link_stats");
	}
	for (uint64_t sent = 0; sent < run->messages; sent++) {
		if (sent >= run->window && sent % (run->window / 2) == 0)
			sem_wait(&run->half);
		check(bus_pub_send(pub, data, run->payload), "bus_pub_send");
	}
	sem_wait(&run->half);
	sem_wait(&run->half);
	bus_pub_close(pub);
	bus_link_close(link);
	check(bus_close(bus, WAIT_MS), "bus_close");
	free(data);
}

int
main(int argc, char **argv)
{
	struct run *run;
	int status;
	pid_t far;

	if (argc < 5 || argc > 6) {
		fprintf(stderr,
		    "usage: bench_count_links SCHEME PAYLOAD WINDOW MESSAGES [USERS_FILE]\n");
		return 2;
	}
	run = mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(run == MAP_FAILED ? BUS_E_NOMEM : 0, "mmap");
	run->scheme = argv[1];
	run->users_file = argc == 6 ? argv[5] : NULL;
	run->payload = strtoul(argv[2], NULL, 10);
	run->window = strtoul(argv[3], NULL, 10);
	run->messages = strtoul(argv[4], NULL, 10) / run->window * run->window;
	check(run->window < 2 || run->messages == 0 ? BUS_E_INVAL : 0, "the numbers");
	if (run->users_file != NULL)
		check(bus_user_set(run->users_file, USER, PASSWORD, 0), "bus_user_set");
	sem_init(&run->ready, 1, 0);
	sem_init(&run->half, 1, 0);
	far = fork();
	check(far < 0 ? BUS_E_SYS : 0, "fork");
	if (far == 0) {
		receive(run);
		return 0;
	}
	send_all(run);
	waitpid(far, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
