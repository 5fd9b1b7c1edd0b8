/* The byte streams of ipc and tcp alone: the promises of link/transport.h in difficult conditions. */
#define _GNU_SOURCE
#include "link_test.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "link/loop.h"
#include "link/transport.h"

#define MUCH ((size_t)32 << 20) /* more than the system takes for a peer that does not read */

enum { CHUNK = 100003, CROWD = 1000, ENDS = 200 };

/* One direction of a stream, on the link thread: it continues until `len` bytes are through, or an error ends it. */
struct way {
	struct bus__stream *stream;
	uint8_t *data;
	size_t len;
	struct bus__io io;
	_Atomic size_t through;
	_Atomic unsigned steps;
	_Atomic bool done;
	_Atomic int err;
};

struct rig {
	struct bus__loop loop;
	struct bus__address addr;
	struct bus__terms terms;
	struct bus__listener *listener;
	struct bus__dialer *dialer;
	struct bus__io accept_io, dial_io;
	_Atomic unsigned ended;    /* of the two */
	struct bus__stream *a, *b; /* a dialled */
	struct way out, in;        /* from a to b */
};

static void
send_rest(struct way *way)
{
	const struct iovec iov[] = {
	    {way->data + way->through, 1},
	    {way->data + way->through + 1, way->len - way->through - 1},
	};

	way->stream->ops->send(way->stream, iov, iov[1].iov_len > 0 ? 2 : 1, &way->io);
}

static void
receive_rest(struct way *way)
{
	size_t left = way->len - way->through;

	way->stream->ops->recv(
	    way->stream, way->data + way->through, left < CHUNK ? left : CHUNK, &way->io);
}

static bool
ends(struct way *way)
{
	way->through += way->io.count;
	way->steps++;
	way->err = way->io.err;
	if (way->err == 0 && way->through < way->len)
		return false;
	way->done = true;
	return true;
}

static void
on_sent(void *arg)
{
	if (!ends(arg))
		send_rest(arg);
}

static void
on_received(void *arg)
{
	if (!ends(arg))
		receive_rest(arg);
}

static void
begin_out(void *arg)
{
	struct rig *rig = arg;

	rig->out.stream = rig->a;
	rig->out.io =
	    (struct bus__io){.task = {.run = on_sent, .arg = &rig->out}, .loop = &rig->loop};
	send_rest(&rig->out);
}

static void
begin_in(void *arg)
{
	struct rig *rig = arg;

	rig->in.stream = rig->b;
	rig->in.io =
	    (struct bus__io){.task = {.run = on_received, .arg = &rig->in}, .loop = &rig->loop};
	receive_rest(&rig->in);
}

static void
on_connected(void *arg)
{
	struct rig *rig = arg;

	rig->ended++;
}

static void
begin_connecting(void *arg)
{
	struct rig *rig = arg;

	rig->ended = 0;
	rig->accept_io =
	    (struct bus__io){.task = {.run = on_connected, .arg = rig}, .loop = &rig->loop};
	rig->dial_io = rig->accept_io;
	rig->listener->ops->accept(rig->listener, &rig->accept_io);
	ck_bus(rig->addr.transport->dial(&rig->addr, &rig->terms, &rig->dial_io, &rig->dialer), 0);
}

static void
end_connecting(void *arg)
{
	struct rig *rig = arg;

	rig->dialer->ops->free(rig->dialer);
	rig->a = rig->dial_io.stream;
	rig->b = rig->accept_io.stream;
	ck_assert(rig->a != NULL && rig->b != NULL);
	ck_bus(rig->a->ops->admit(rig->a), 0);
	ck_bus(rig->b->ops->admit(rig->b), 0);
}

static void
rig_connect(struct rig *rig)
{
	bus__loop_call(&rig->loop, begin_connecting, rig);
	ck_eventually(rig->ended == 2);
	bus__loop_call(&rig->loop, end_connecting, rig);
}

/* scheme: 1 ipc, 2 tcp. */
static struct rig *
rig_open(int scheme)
{
	struct rig *rig = calloc(1, sizeof *rig);
	struct bus__address addr;

	ck_bus(bus__url_parse(listen_url(scheme), &addr), 0);
	ck_bus(addr.transport->check(&addr, &rig->terms, &rig->addr), 0);
	ck_bus(bus__loop_start(&rig->loop), 0);
	ck_bus(addr.transport->listen(&rig->addr, &rig->terms, &rig->listener), 0);
	rig->out.data = malloc(MUCH);
	rig->in.data = calloc(1, MUCH);
	for (size_t i = 0; i < MUCH; i++)
		rig->out.data[i] = (uint8_t)(i ^ (i >> 8) ^ (i >> 16));
	return rig;
}

static void
free_a(void *arg)
{
	struct rig *rig = arg;

	rig->a->ops->free(rig->a);
	rig->a = NULL;
	bus__loop_cancel(&rig->loop, &rig->out.io.task);
}

static void
free_b(void *arg)
{
	struct rig *rig = arg;

	rig->b->ops->free(rig->b);
	rig->b = NULL;
	bus__loop_cancel(&rig->loop, &rig->in.io.task);
}

static void
free_all(void *arg)
{
	struct rig *rig = arg;

	if (rig->a != NULL)
		free_a(rig);
	if (rig->b != NULL)
		free_b(rig);
	rig->listener->ops->free(rig->listener);
}

static void
rig_close(struct rig *rig)
{
	bus__loop_call(&rig->loop, free_all, rig);
	bus__loop_stop(&rig->loop);
	bus__loop_fini(&rig->loop);
	free(rig->out.data);
	free(rig->in.data);
	free(rig);
}

/* Sends more than the system takes, so that the send waits for the peer to read. */
static void
begin_much(struct rig *rig)
{
	rig->out.len = MUCH;
	bus__loop_call(&rig->loop, begin_out, rig);
	ck_eventually(rig->out.through > 0);
	ck_assert(!rig->out.done);
}

/* _i: ipc or tcp, here and below. */
START_TEST(a_send_that_is_cut_continues_at_its_place)
{
	struct rig *rig = rig_open(_i);

	rig_connect(rig);
	begin_much(rig);
	rig->in.len = MUCH;
	bus__loop_call(&rig->loop, begin_in, rig);
	ck_eventually(rig->out.done && rig->in.done);
	ck_bus(rig->out.err, 0);
	ck_bus(rig->in.err, 0);
	ck_assert_uint_gt(rig->out.steps, 1);
	ck_assert_int_eq(memcmp(rig->in.data, rig->out.data, MUCH), 0);
	rig_close(rig);
}
END_TEST

START_TEST(a_peer_that_vanishes_ends_a_send_that_is_half_done)
{
	struct rig *rig = rig_open(_i);

	rig_connect(rig);
	begin_much(rig);
	bus__loop_call(&rig->loop, free_b, rig);
	ck_eventually(rig->out.done);
	ck_bus(rig->out.err, BUS_E_GONE);
	rig_close(rig);
}
END_TEST

START_TEST(a_stream_that_is_freed_touches_no_operation_any_more)
{
	struct rig *rig = rig_open(_i);
	size_t through;

	rig_connect(rig);
	begin_much(rig);
	bus__loop_call(&rig->loop, free_a, rig);
	through = rig->out.through;
	rig->out.io.count = 12345;
	rig->in.len = MUCH;
	bus__loop_call(&rig->loop, begin_in, rig);
	ck_eventually(rig->in.done);
	ck_bus(rig->in.err, BUS_E_GONE);
	ck_assert_int_eq(memcmp(rig->in.data, rig->out.data, rig->in.through), 0);
	ck_assert_uint_eq(rig->out.through, through);
	ck_assert_uint_eq(rig->out.io.count, 12345);
	rig_close(rig);
}
END_TEST

/* The end may arrive with them, before or after they are read. */
START_TEST(bytes_that_are_sent_before_an_end_arrive_before_it)
{
	struct rig *rig = rig_open(_i);

	for (unsigned i = 0; i < ENDS; i++) {
		rig_connect(rig);
		rig->out.len = 100;
		rig->in.len = 200;
		rig->out.through = rig->in.through = 0;
		rig->out.done = rig->in.done = false;
		if (i % 2 == 0)
			bus__loop_call(&rig->loop, begin_in, rig);
		bus__loop_call(&rig->loop, begin_out, rig);
		ck_eventually(rig->out.done);
		bus__loop_call(&rig->loop, free_a, rig);
		if (i % 2 != 0)
			bus__loop_call(&rig->loop, begin_in, rig);
		ck_eventually(rig->in.done);
		ck_bus(rig->in.err, BUS_E_GONE);
		ck_assert_uint_eq(rig->in.through, 100);
		bus__loop_call(&rig->loop, free_b, rig);
	}
	rig_close(rig);
}
END_TEST

/* Each sends one byte. */
START_TEST(a_thousand_connections_are_served_by_one_thread)
{
	struct rlimit limit;
	struct rig *rig;
	static struct bus__stream *streams[CROWD][2];

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_max < 2 * CROWD + 100)
		return;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	rig = rig_open(_i);
	for (int i = 0; i < CROWD; i++) {
		rig_connect(rig);
		streams[i][0] = rig->a;
		streams[i][1] = rig->b;
	}
	rig->out.len = rig->in.len = 1;
	for (int i = 0; i < CROWD; i++) {
		rig->a = streams[i][0];
		rig->b = streams[i][1];
		rig->out.data[0] = (uint8_t)i;
		rig->out.through = rig->in.through = 0;
		rig->out.done = rig->in.done = false;
		bus__loop_call(&rig->loop, begin_in, rig);
		bus__loop_call(&rig->loop, begin_out, rig);
		ck_eventually(rig->in.done && rig->out.done);
		ck_assert_uint_eq(rig->in.data[0], (uint8_t)i);
		bus__loop_call(&rig->loop, free_b, rig);
		bus__loop_call(&rig->loop, free_a, rig);
	}
	rig_close(rig);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {&a_send_that_is_cut_continues_at_its_place,
	    &a_peer_that_vanishes_ends_a_send_that_is_half_done,
	    &a_stream_that_is_freed_touches_no_operation_any_more,
	    &bytes_that_are_sent_before_an_end_arrive_before_it,
	    &a_thousand_connections_are_served_by_one_thread};
	Suite *suite = suite_create("link streams");
	TCase *tcase = bus_test_case("over ipc, tcp");

	bus_test_always_forks();
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_loop_test(tcase, *tests[i], 1, 3);
	suite_add_tcase(suite, tcase);
	return suite;
}
