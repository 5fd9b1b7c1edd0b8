/* Transports that programs register: what is refused, and what happens when their functions fail, hang or give bytes in pieces. */
#define _GNU_SOURCE
#include "link_test.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/libbus.h>

#include "base/mem.h"
#include "transport/blocking.h"

/* --- a transport that can be told to misbehave --------------------------------------------------------------------------- */

enum call { LISTEN, ACCEPT, DIAL, SEND, RECV, CALLS };

struct handle {
	int fd; /* of a listener: the end of a pipe from which it reads descriptors */
	struct handle *next;
	_Atomic int inside[CALLS];
	_Atomic bool is_closed;
};

static struct wild {
	_Atomic bool hangs[CALLS]; /* the call ignores its timeout, until this is false again */
	_Atomic int fails[CALLS];  /* what it returns; 0: it does what it should */
	_Atomic bool is_hasty;     /* no call waits */
	_Atomic size_t piece;      /* the most that a send or recv moves; 0: all */
	_Atomic int hung;          /* calls that hang right now */
	_Atomic int calls[CALLS];
	_Atomic int open, faults; /* handles; broken promises of the library */
	pthread_mutex_t lock;
	int door[2]; /* descriptors on their way from dial to accept */
	struct handle *conns;
} wild = {.lock = PTHREAD_MUTEX_INITIALIZER, .door = {-1, -1}};

/* Counts the call, and says whether it is to fail with *ret_err. */
static bool
enter(struct handle *handle, enum call call, int *ret_err)
{
	if (handle != NULL && (handle->is_closed || handle->inside[call]++ != 0))
		wild.faults++;
	wild.calls[call]++;
	if (wild.hangs[call]) {
		wild.hung++;
		while (wild.hangs[call])
			bus_test_nap();
		wild.hung--;
	}
	*ret_err = wild.fails[call];
	errno = ENODEV;
	return *ret_err != 0;
}

static int
leave(struct handle *handle, enum call call, int answer)
{
	if (handle != NULL)
		handle->inside[call]--;
	return answer;
}

static struct handle *
handle_new(int fd)
{
	struct handle *handle = calloc(1, sizeof *handle);

	handle->fd = fd;
	wild.open++;
	return handle;
}

static bool
is_ready(int fd, short what, int timeout_ms)
{
	struct pollfd at = {.fd = fd, .events = what};

	if (timeout_ms <= 0)
		wild.faults++;
	return poll(&at, 1, wild.is_hasty ? 0 : timeout_ms) == 1;
}

static int
wild_listen(void *arg, const char *address, void **ret_listener)
{
	int err;

	if (arg != &wild || strcmp(address, "here") != 0)
		return BUS_E_ADDRESS;
	if (enter(NULL, LISTEN, &err))
		return err;
	pthread_mutex_lock(&wild.lock);
	err = wild.door[1] >= 0 ? BUS_E_ADDRESS_TAKEN : pipe(wild.door);
	pthread_mutex_unlock(&wild.lock);
	if (err == 0)
		*ret_listener = handle_new(wild.door[0]);
	return err;
}

static int
wild_accept(void *listener, int timeout_ms, void **ret_conn)
{
	struct handle *handle = listener;
	int err, fd;

	if (!enter(handle, ACCEPT, &err)) {
		err = BUS_E_TIMEDOUT;
		if (is_ready(handle->fd, POLLIN, timeout_ms) &&
		    read(handle->fd, &fd, sizeof fd) == sizeof fd) {
			*ret_conn = handle_new(fd);
			err = 0;
		}
	}
	return leave(handle, ACCEPT, err);
}

static int
wild_dial(void *arg, const char *address, int timeout_ms, void **ret_conn)
{
	int err, fds[2];
	struct handle *handle;

	(void)timeout_ms;
	if (arg != &wild || strcmp(address, "here") != 0)
		return BUS_E_ADDRESS;
	if (enter(NULL, DIAL, &err))
		return err;
	pthread_mutex_lock(&wild.lock);
	err = BUS_E_REFUSED;
	if (wild.door[1] >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) {
		if (write(wild.door[1], &fds[1], sizeof fds[1]) == sizeof fds[1])
			err = 0;
		handle = handle_new(fds[0]);
		handle->next = wild.conns;
		wild.conns = handle;
		*ret_conn = handle;
	}
	pthread_mutex_unlock(&wild.lock);
	return err;
}

static size_t
piece_of(size_t len)
{
	size_t piece = wild.piece;

	return piece != 0 && piece < len ? piece : len;
}

static int
wild_send(void *conn, const void *data, size_t len, int timeout_ms)
{
	struct handle *handle = conn;
	int err;

	if (!enter(handle, SEND, &err)) {
		err = BUS_E_TIMEDOUT;
		if (len == 0 || len > 64 * 1024)
			wild.faults++;
		if (is_ready(handle->fd, POLLOUT, timeout_ms))
			err =
			    (int)send(handle->fd, data, piece_of(len), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return leave(handle, SEND, err);
}

static int
wild_recv(void *conn, void *ret_data, size_t cap, int timeout_ms)
{
	struct handle *handle = conn;
	int err;

	if (!enter(handle, RECV, &err)) {
		err = BUS_E_TIMEDOUT;
		if (is_ready(handle->fd, POLLIN, timeout_ms))
			err = (int)recv(handle->fd, ret_data, piece_of(cap), MSG_DONTWAIT);
	}
	return leave(handle, RECV, err);
}

static void
wild_close(void *handle)
{
	struct handle *closing = handle;

	for (int call = 0; call < CALLS; call++)
		wild.faults += closing->inside[call] != 0;
	wild.faults += closing->is_closed;
	closing->is_closed = true;
	pthread_mutex_lock(&wild.lock);
	if (closing->fd == wild.door[0]) {
		close(wild.door[1]);
		wild.door[0] = wild.door[1] = -1;
	}
	close(closing->fd);
	for (struct handle **at = &wild.conns; *at != NULL; at = &(*at)->next)
		if (*at == closing) {
			*at = closing->next;
			break;
		}
	pthread_mutex_unlock(&wild.lock);
	wild.open--;
	free(closing);
}

/* The library keeps nothing of it: it is gone when the call returns. */
static int
register_as(const char *text)
{
	char scheme[300];
	struct bus_transport transport = {.size = sizeof transport,
	    .scheme = scheme,
	    .arg = &wild,
	    .listen = wild_listen,
	    .accept = wild_accept,
	    .dial = wild_dial,
	    .send = wild_send,
	    .recv = wild_recv,
	    .close = wild_close};
	int err;

	snprintf(scheme, sizeof scheme, "%s", text);
	err = bus_transport_register(&transport);
	memset(scheme, '?', sizeof scheme);
	memset(&transport, 0, sizeof transport);
	return err;
}

static void
be_wild(void)
{
	int err = register_as("wild");

	for (int call = 0; call < CALLS; call++)
		wild.calls[call] = 0;
	ck_assert(
	    err == 0 || err == BUS_E_EXIST); /* a test before this one, where none is forked */
}

/* The peer hangs up, as far as the dialling side can see. */
static void
cut(void)
{
	pthread_mutex_lock(&wild.lock);
	for (struct handle *at = wild.conns; at != NULL; at = at->next)
		shutdown(at->fd, SHUT_RDWR);
	pthread_mutex_unlock(&wild.lock);
}

/* Nothing is left of the test, and the library kept what it promises to the functions. */
static void
expect_peace(void)
{
	ck_eventually(wild.open == 0);
	ck_assert_int_eq(wild.faults, 0);
}

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

static void
pair_over_wild(struct pair *p)
{
	be_wild();
	*p = (struct pair){.a = open_bus(), .b = open_bus()};
	ck_bus(bus_listen(p->a, "wild://here", &patient, &p->la), 0);
	ck_bus(bus_dial(p->b, "wild://here", &patient, &p->lb), 0);
}

static void
pair_up(struct pair *p)
{
	pair_over_wild(p);
	ck_eventually(is_up(p->lb));
}

static const char filler[10000];

/* So that what p.a publishes on t is sent. */
static void
want_messages(struct pair *p)
{
	ck_bus(bus_subscribe(p->b, "t", ignore_message, NULL, NULL), 0);
	ck_eventually((bus_publish(p->a, "t", "x", 1), stats_of(p->la).sent > 0));
}

/* A message from one to the other, without a callback. */
static void
expect_payload(struct pair *p, size_t len)
{
	const struct bus_mailbox_config large = {.size = sizeof large, .bytes = 4 << 20};
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	uint8_t *data = malloc(len + 1);
	static unsigned count;
	char topic[16];

	snprintf(topic, sizeof topic, "n/%u", count++); /* more than one of it may arrive */
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	ck_bus(bus_mailbox_open(p->b, &large, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, topic, NULL, NULL, NULL), 0);
	ck_eventually((bus_publish(p->a, topic, data, len), bus_recv(mbox, 1, &msg) == 1));
	ck_assert_uint_eq(msg->len, len);
	ck_assert(len == 0 || memcmp(msg->data, data, len) == 0);
	bus_mailbox_close(mbox);
	free(data);
}

/* --- registering ---------------------------------------------------------------------------------------------------------- */

/* The text of the last failure has the words. */
static void
expect_text(const char *words)
{
	ck_assert_msg(strstr(bus_error_text(), words) != NULL, "\"%s\" lacks \"%s\"",
	    bus_error_text(), words);
}

START_TEST(a_transport_without_a_function_is_refused_by_its_name)
{
	const struct bus_transport whole = {sizeof whole, "whole", NULL, wild_listen, wild_accept,
	    wild_dial, wild_send, wild_recv, wild_close};
	static const char *const names[] = {"listen", "accept", "dial", "send", "recv", "close"};
	struct bus_transport part[6] = {whole, whole, whole, whole, whole, whole};

	part[0].listen = NULL;
	part[1].accept = NULL;
	part[2].dial = NULL;
	part[3].send = NULL;
	part[4].recv = NULL;
	part[5].close = NULL;
	for (int i = 0; i < 6; i++) {
		char words[32];

		snprintf(words, sizeof words, "whole: %s is NULL", names[i]);
		ck_bus(bus_transport_register(&part[i]), BUS_E_INVAL);
		expect_text(words);
	}
	ck_bus(bus_transport_register(NULL), BUS_E_INVAL);
}
END_TEST

START_TEST(a_scheme_is_short_and_of_few_letters)
{
	static const char *const bad[] = {"", "Fifo", "9p", "+a", "a b", "a/b", "a:b", "a_b", "ü",
	    "a\n", "abcdefghijklmnop", "a://"};
	static const char *const good[] = {"x", "a9+-.", "abcdefghijklmno"};
	struct bus_transport none = {.size = sizeof none};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ck_assert_msg(register_as(bad[i]) == BUS_E_INVAL, "accepted: %s", bad[i]);
		expect_text("no scheme: use 1 to 15 of a-z");
	}
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ck_bus(register_as(good[i]), 0);
	ck_bus(bus_transport_register(&none), BUS_E_INVAL);
	expect_text("NULL: no scheme");
}
END_TEST

START_TEST(a_scheme_is_registered_once_and_never_replaces_one_of_libbus)
{
	static const char *const ours[] = {"inproc", "ipc", "tcp"};

	for (int i = 0; i < 3; i++) {
		ck_bus(register_as(ours[i]), BUS_E_EXIST);
		expect_text("the scheme is in use");
	}
	ck_bus(register_as("twice"), 0);
	ck_bus(register_as("twice"), BUS_E_EXIST);
	ck_bus(register_as("twic"), 0);
}
END_TEST

static void *
register_many(void *arg)
{
	_Atomic int *registered = arg;
	char scheme[16];

	for (int i = 0; i < 100; i++) {
		snprintf(scheme, sizeof scheme, "s%d", i);
		*registered += register_as(scheme) == 0;
	}
	return NULL;
}

START_TEST(threads_that_register_the_same_schemes_get_each_once)
{
	_Atomic int registered = 0;
	pthread_t threads[4];
	struct bus *bus = open_bus();
	struct bus_link *link;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, register_many, &registered), 0);
	/* Meanwhile they are looked for. */
	for (int i = 0; i < 100; i++)
		ck_bus(bus_dial(bus, "nothing://x", NULL, &link), BUS_E_SCHEME);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(registered, 100);
	/* That many have no room in the text: it says so, and all else it says remains. */
	ck_bus(bus_dial(bus, "nothing://x", NULL, &link), BUS_E_SCHEME);
	expect_text("this process has inproc, ipc, tcp, ");
	expect_text(", ...: use one of them, or first add yours by bus_transport_register()");
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(an_unknown_scheme_is_answered_with_those_that_there_are)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	ck_bus(bus_dial(bus, "radio://x", NULL, &link), BUS_E_SCHEME);
	expect_text("radio://x: unknown scheme: this process has inproc, ipc, tcp");
	ck_bus(register_as("carrier"), 0);
	ck_bus(bus_listen(bus, "radio://x", NULL, &link), BUS_E_SCHEME);
	expect_text("inproc, ipc, tcp, ");
	expect_text("carrier: use one of them");
	ck_bus(register_as("radio"), 0);
	ck_bus(bus_dial(bus, "radio://x", NULL, &link), 0);
	ck_bus(bus_close(bus, 0), 0);
	bus_link_close(link);
	expect_peace();
}
END_TEST

/* --- links that work ------------------------------------------------------------------------------------------------------ */

START_TEST(messages_cross_however_small_the_pieces_are)
{
	static const size_t pieces[] = {1, 3, 1000, 0};
	struct pair p;

	wild.piece = pieces[_i];
	pair_up(&p);
	expect_payload(&p, 0);
	expect_payload(&p, 5000);
	if (pieces[_i] != 1)
		expect_payload(&p, pieces[_i] == 3 ? 100000 : 1 << 20);
	pair_close(&p);
	expect_peace();
	wild.piece = 0;
}
END_TEST

START_TEST(a_transport_that_never_waits_works)
{
	struct pair p;

	wild.is_hasty = true;
	pair_up(&p);
	expect_payload(&p, 1 << 20);
	pair_close(&p);
	expect_peace();
	wild.is_hasty = false;
}
END_TEST

START_TEST(a_transport_can_be_registered_beside_open_links)
{
	struct pair p;

	pair_open(&p, 0);
	be_wild();
	expect_payload(&p, 10);
	pair_close(&p);
	pair_up(&p);
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(an_address_is_free_again_when_its_link_is_closed)
{
	struct bus *bus = open_bus();
	struct bus_link *link, *other;
	char url[64];

	be_wild();
	for (int i = 0; i < 3; i++) {
		ck_bus(bus_listen(bus, "wild://here", NULL, &link), 0);
		ck_bus(bus_listen(bus, "wild://here", NULL, &other), BUS_E_ADDRESS_TAKEN);
		ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
		ck_assert_str_eq(url, "wild://here");
		bus_link_close(link);
		ck_assert_int_eq(wild.open, 0);
	}
	/* One that the user does not close ends with the bus. */
	ck_bus(bus_listen(bus, "wild://here", NULL, NULL), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_assert_int_eq(wild.open, 0);
	expect_peace();
}
END_TEST

/* Those of the library, by their names. */
static unsigned
threads(void)
{
	unsigned count = 0;
	struct dirent *entry;
	char path[300], name[16];
	DIR *dir = opendir("/proc/self/task");
	FILE *file;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (file == NULL)
			continue; /* it has ended */
		count += fgets(name, sizeof name, file) != NULL && strncmp(name, "bus-", 4) == 0;
		fclose(file);
	}
	closedir(dir);
	return count;
}

START_TEST(its_threads_end_with_the_link)
{
	struct pair p;

	pair_up(&p);
	/* One of each bus and of the listener, two of each end of the connection. */
	ck_eventually(threads() == 2 + 1 + 4);
	pair_close(&p);
	ck_eventually(threads() == 0);
	expect_peace();
}
END_TEST

/* --- functions that fail -------------------------------------------------------------------------------------------------- */

START_TEST(what_listen_answers_is_the_answer_of_bus_listen)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	ck_bus(bus_listen(bus, "wild://", NULL, &link), BUS_E_ADDRESS);
	expect_text("wild://: malformed address: ");
	ck_bus(bus_listen(bus, "wild://elsewhere", NULL, &link), BUS_E_ADDRESS);
	expect_text("wild://elsewhere: malformed address: the program that registered the scheme");
	wild.fails[LISTEN] = BUS_E_DENIED;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_DENIED);
	wild.fails[LISTEN] = BUS_E_SYS;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	expect_text(strerror(ENODEV));
	/* What is no number of libbus is one that everybody knows. */
	wild.fails[LISTEN] = -12345;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	wild.fails[LISTEN] = 7;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	wild.fails[LISTEN] = 0;
	ck_bus(bus_close(bus, patience_ms()), 0);
	expect_peace();
}
END_TEST

START_TEST(a_dial_that_fails_is_tried_again)
{
	struct pair p;

	wild.fails[DIAL] = BUS_E_DENIED;
	pair_over_wild(&p);
	ck_eventually(wild.calls[DIAL] >= 3);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_DENIED);
	ck_assert(!is_up(p.lb));
	wild.fails[DIAL] = 0;
	ck_eventually(is_up(p.lb));
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(an_accept_that_fails_is_tried_again)
{
	struct pair p;

	wild.fails[ACCEPT] = BUS_E_PROTOCOL;
	pair_over_wild(&p);
	ck_eventually(wild.calls[ACCEPT] >= 3);
	ck_assert_int_eq(stats_of(p.la).last_error, BUS_E_PROTOCOL);
	wild.fails[ACCEPT] = 0;
	ck_eventually(is_up(p.lb));
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(a_connection_whose_calls_fail_comes_back)
{
	/* -1: as a system call has it. More than fits: a fault of the transport's. */
	static const int answers[][2] = {
	    {SEND, BUS_E_GONE}, {SEND, -1}, {RECV, 0x7fffffff}, {RECV, -1}, {SEND, 1 << 20}};
	struct pair p;

	pair_up(&p);
	want_messages(&p);
	wild.fails[answers[_i][0]] = answers[_i][1];
	ck_eventually((bus_publish(p.a, "t", "x", 1),
	    stats_of(p.la).ended[BUS_LINK_END_GONE] + stats_of(p.lb).ended[BUS_LINK_END_GONE] > 0));
	wild.fails[answers[_i][0]] = 0;
	ck_eventually(is_up(p.lb));
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(a_connection_whose_peer_vanishes_comes_back)
{
	struct pair p;

	pair_up(&p);
	expect_payload(&p, 10);
	for (unsigned i = 1; i <= 3; i++) {
		cut();
		ck_eventually(stats_of(p.lb).ended[BUS_LINK_END_GONE] >= i);
		ck_eventually(is_up(p.lb));
		expect_payload(&p, 10);
	}
	pair_close(&p);
	expect_peace();
}
END_TEST

/* Each allocation fails once, while a link comes up. */
START_TEST(without_memory_a_link_comes_up_later)
{
	const struct bus_transport other = {sizeof other, "other", NULL, wild_listen, wild_accept,
	    wild_dial, wild_send, wild_recv, wild_close};
	struct bus_link *la, *lb;
	struct pair p;

	be_wild();
	bus__mem_fail_after(0);
	ck_bus(bus_transport_register(&other), BUS_E_NOMEM);
	expect_text("other: out of memory");
	for (long n = 0, made = LONG_MAX; made > n; n++) {
		p = (struct pair){.a = open_bus(), .b = open_bus()};
		la = lb = NULL;
		bus__mem_fail_after(n);
		while (bus_listen(p.a, "wild://here", &patient, &la) == BUS_E_NOMEM)
			continue;
		while (bus_dial(p.b, "wild://here", &patient, &lb) == BUS_E_NOMEM)
			continue;
		ck_eventually(is_up(lb));
		made = bus__mem_fail_after(-1);
		bus_link_close(lb);
		bus_link_close(la);
		ck_assert_int_ge(bus_close(p.b, 0), 0);
		ck_assert_int_ge(bus_close(p.a, 0), 0);
	}
	expect_peace();
}
END_TEST

/* --- functions that do not return ------------------------------------------------------------------------------------------ */

static void
release(enum call call)
{
	wild.hangs[call] = false;
	ck_eventually(wild.hung == 0);
}

/* It hangs when the closes begin, and still does when they have returned. */
START_TEST(links_and_buses_close_beside_a_call_that_does_not_return)
{
	static const enum call calls[] = {SEND, RECV, ACCEPT, DIAL};
	enum call call = calls[_i];
	struct pair p;

	if (call == DIAL) {
		wild.hangs[DIAL] = true;
		pair_over_wild(&p);
	} else {
		pair_up(&p);
		want_messages(&p);
		wild.hangs[call] = true;
	}
	ck_eventually((bus_publish(p.a, "t", "x", 1), wild.hung > 0));
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	bus_link_close(p.la);
	ck_assert_int_gt(wild.hung, 0);
	ck_assert_int_gt(wild.open + (call == DIAL), 0);
	release(call);
	expect_peace();
}
END_TEST

/* Nothing is written where the link had its buffers when the call comes back with bytes. */
START_TEST(a_call_that_returns_after_its_link_disturbs_no_other)
{
	struct pair p, q;

	pair_up(&p);
	want_messages(&p);
	wild.hangs[RECV] = true;
	ck_eventually(wild.hung == 2);
	for (int i = 0; i < 100; i++)
		bus_publish(p.a, "t", "some bytes on their way", 23);
	bus_link_close(p.lb);
	bus_link_close(p.la);
	pair_open(&q, 0);
	expect_payload(&q, 100000);
	release(RECV);
	expect_payload(&q, 100000);
	pair_close(&q);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	expect_peace();
}
END_TEST

START_TEST(a_listen_that_does_not_return_times_out)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	bus__open_ms = 50;
	wild.hangs[LISTEN] = true;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_TIMEDOUT);
	expect_text("wild://here: timed out");
	ck_assert_int_eq(wild.hung, 1);
	release(LISTEN);
	/* What it opened after all is closed again. */
	ck_eventually(wild.open == 0 && wild.calls[LISTEN] == 1);
	bus__open_ms = 5000;
	ck_eventually(bus_listen(bus, "wild://here", NULL, &link) == 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, patience_ms()), 0);
	expect_peace();
}
END_TEST

START_TEST(a_listener_of_another_bus_waits_for_no_call_that_was_left_behind)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	wild.hangs[DIAL] = true;
	ck_bus(bus_dial(bus, "wild://here", NULL, NULL), 0);
	ck_eventually(wild.hung == 1);
	ck_bus(bus_close(bus, 0), 0);
	bus = open_bus();
	for (int i = 0; i < 20; i++) {
		ck_bus(bus_listen(bus, "wild://here", NULL, &link), 0);
		bus_link_close(link);
		ck_assert_int_eq(wild.open, 0);
	}
	ck_bus(bus_close(bus, 0), 0);
	release(DIAL);
	expect_peace();
}
END_TEST

START_TEST(calls_that_do_not_return_are_bounded)
{
	enum { MOST = 64 };
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	wild.hangs[DIAL] = true;
	for (int i = 0; i < MOST; i++)
		ck_bus(bus_dial(bus, "wild://here", NULL, NULL), 0);
	ck_eventually(wild.hung == MOST);
	ck_bus(bus_close(bus, 0), 0);
	bus = open_bus();
	ck_bus(bus_dial(bus, "wild://here", NULL, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_LIMIT);
	ck_bus(bus_listen(bus, "wild://here", NULL, NULL), BUS_E_LIMIT);
	expect_text("calls of a registered transport do not return");
	ck_assert_int_eq(wild.hung, MOST);
	release(DIAL);
	/* When they have returned after all, it goes on. */
	ck_eventually(bus_listen(bus, "wild://here", NULL, NULL) == 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
	expect_peace();
}
END_TEST

/* The peer reads nothing, and send keeps its timeouts: so nothing hangs, and what has no room is counted. */
START_TEST(a_send_that_takes_nothing_holds_up_nobody)
{
	struct pair p;

	pair_up(&p);
	want_messages(&p);
	wild.fails[SEND] = BUS_E_TIMEDOUT;
	for (int i = 0; i < 200; i++)
		ck_bus(bus_publish(p.a, "t", filler, sizeof filler), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	ck_assert_uint_gt(stats_of(p.la).lost, 0);
	bus_link_close(p.la);
	wild.fails[SEND] = 0;
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	expect_peace();
}
END_TEST

START_TEST(a_peer_that_takes_nothing_is_silent_and_ends)
{
	const struct bus_link_config quick = {.size = sizeof quick, .heartbeat_ms = 100};
	struct pair p;

	be_wild();
	p = (struct pair){.a = open_bus(), .b = open_bus()};
	ck_bus(bus_listen(p.a, "wild://here", &quick, &p.la), 0);
	ck_bus(bus_dial(p.b, "wild://here", &quick, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	wild.fails[SEND] = BUS_E_TIMEDOUT;
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_SILENT] > 0);
	wild.fails[SEND] = 0;
	ck_eventually(is_up(p.lb));
	pair_close(&p);
	expect_peace();
}
END_TEST

/* --- processes ------------------------------------------------------------------------------------------------------------ */

#ifndef __SANITIZE_THREAD__ /* which knows no new threads in a forked child */
static void
use_in_a_child(void)
{
	struct pair p;

	alarm((unsigned)bus_test_patience());
	/* The parent's door is its own. */
	wild.door[0] = wild.door[1] = -1;
	wild.conns = NULL;
	wild.open = 0;
	wild.hangs[RECV] = false;
	pair_up(&p);
	expect_payload(&p, 1000);
	pair_close(&p);
	ck_eventually(wild.open == 0);
	_exit(wild.faults == 0 ? 0 : 1);
}

START_TEST(a_child_has_what_is_registered_and_opens_links_of_its_own)
{
	struct bus *spare = open_bus();
	struct pair p;
	pid_t child;
	int status;

	pair_up(&p);
	wild.hangs[RECV] = true;
	ck_eventually(wild.hung == 2);
	bus_link_close(p.lb); /* which leaves a call behind */
	child = bus_test_fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		use_in_a_child();
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	release(RECV);
	bus_link_close(p.la);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	ck_bus(bus_close(spare, 0), 0);
	expect_peace();
}
END_TEST

#endif

START_TEST(of_two_processes_of_a_name_one_has_the_address)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20};
	struct bus *first, *second;
	struct bus_link *open, *standing_by;

	be_wild();
	ck_bus(bus_open("wild", &cfg, &first), 0);
	ck_bus(bus_open("wild", &cfg, &second), 0);
	ck_bus(bus_listen(first, "wild://here", NULL, &open), 0);
	ck_bus(bus_listen(second, "wild://here", NULL, &standing_by), 0);
	ck_assert(is_up(open) && !is_up(standing_by));
	bus_link_close(open);
	ck_eventually(is_up(standing_by));
	bus_link_close(standing_by);
	ck_assert_int_ge(bus_close(second, patience_ms()), 0);
	ck_assert_int_ge(bus_close(first, patience_ms()), 0);
	expect_peace();
}
END_TEST

/* --- the example ---------------------------------------------------------------------------------------------------------- */

extern const struct bus_transport
    own_transport; /* examples/c/own_transport.c; tests/contract has the rest */

static void
open_fifos(void)
{
	int err = bus_transport_register(&own_transport);

	ck_assert(err == 0 || err == BUS_E_EXIST);
}

START_TEST(the_example_refuses_an_address_in_use_and_files_of_others)
{
	struct bus *bus = open_bus();
	struct bus_link *link;
	char path[200], url[256], text[8] = "";
	FILE *file;

	open_fifos();
	snprintf(path, sizeof path, "%s/file", bus_test_dir());
	file = fopen(path, "w+");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fputs("mine", file), 1);
	ck_assert_int_eq(fflush(file), 0);
	snprintf(url, sizeof url, "fifo://%s", path);
	ck_bus(bus_listen(bus, url, NULL, &link), BUS_E_SYS);
	ck_bus(bus_dial(bus, url, NULL, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_REFUSED);
	bus_link_close(link);
	rewind(file);
	ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
	ck_assert_str_eq(text, "mine");
	fclose(file);

	snprintf(url, sizeof url, "fifo://%s/fifo", bus_test_dir());
	ck_bus(bus_listen(bus, url, NULL, &link), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_ADDRESS_TAKEN);
	bus_link_close(link);
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("transport");
	TCase *tcase = bus_test_case("loops");

	BUS_TEST_CASE(suite, "registering", a_transport_without_a_function_is_refused_by_its_name,
	    a_scheme_is_short_and_of_few_letters,
	    a_scheme_is_registered_once_and_never_replaces_one_of_libbus,
	    an_unknown_scheme_is_answered_with_those_that_there_are,
	    a_transport_can_be_registered_beside_open_links,
	    threads_that_register_the_same_schemes_get_each_once);
	BUS_TEST_CASE(suite, "links", a_transport_that_never_waits_works,
	    an_address_is_free_again_when_its_link_is_closed, its_threads_end_with_the_link);
	BUS_TEST_CASE(suite, "failures", what_listen_answers_is_the_answer_of_bus_listen,
	    a_dial_that_fails_is_tried_again, without_memory_a_link_comes_up_later,
	    an_accept_that_fails_is_tried_again, a_connection_whose_peer_vanishes_comes_back,
	    a_send_that_takes_nothing_holds_up_nobody,
	    a_peer_that_takes_nothing_is_silent_and_ends);
	BUS_TEST_CASE(suite, "hangs", a_call_that_returns_after_its_link_disturbs_no_other,
	    a_listen_that_does_not_return_times_out,
	    a_listener_of_another_bus_waits_for_no_call_that_was_left_behind,
	    calls_that_do_not_return_are_bounded);
	BUS_TEST_CASE(suite, "processes", of_two_processes_of_a_name_one_has_the_address);
#ifndef __SANITIZE_THREAD__
	BUS_TEST_CASE(suite, "children", a_child_has_what_is_registered_and_opens_links_of_its_own);
#endif
	BUS_TEST_CASE(
	    suite, "the example", the_example_refuses_an_address_in_use_and_files_of_others);
	tcase_add_loop_test(tcase, messages_cross_however_small_the_pieces_are, 0, 4);
	tcase_add_loop_test(tcase, a_connection_whose_calls_fail_comes_back, 0, 5);
	tcase_add_loop_test(tcase, links_and_buses_close_beside_a_call_that_does_not_return, 0, 4);
	suite_add_tcase(suite, tcase);
	return suite;
}
