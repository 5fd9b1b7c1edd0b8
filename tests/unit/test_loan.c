#define _GNU_SOURCE
#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <libbus/bus.h>

#include "queue/block.h"

static struct bus_pub *
open_pub(struct bus *bus)
{
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	return pub;
}

static void *
loan(struct bus_pub *pub, size_t len)
{
	void *data;

	ck_bus(bus_pub_loan(pub, len, &data), 0);
	ck_assert_uint_eq((uintptr_t)data % _Alignof(max_align_t), 0);
	memset(data, 'l', len);
	return data;
}

static void
expect_parts(struct bus_mailbox *m, size_t head, size_t body)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(m, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, head + body);
	ck_assert(head == 0 || memchr(msg->data, 'b', head) == NULL);
	ck_assert(body == 0 || memchr((const char *)msg->data + head, 'h', body) == NULL);
}

START_TEST(parts_arrive_as_one_payload)
{
	static char head[100000], body[100000];
	const size_t lens[][2] = {{0, 0}, {1, 0}, {0, 7}, {5, 7}, {5, 100000}, {100000, 100000}};
	struct bus *bus = open_bus();
	struct bus_mailbox *all[] = {subscriber(bus, "t"), subscriber(bus, "#"),
	    open_mailbox(bus, "#", .full = BUS_FULL_LATEST),
	    open_mailbox(bus, "t", .full = BUS_FULL_REFUSE, .bytes = 4096)};
	struct bus_pub *pub = open_pub(bus);
	const struct bus_msg *msg;

	memset(head, 'h', sizeof head);
	memset(body, 'b', sizeof body);
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		const struct bus_slice parts[] = {{head, lens[i][0]}, {body, lens[i][1]}};

		ck_bus(bus_pub_send_parts(pub, parts, 2), 0);
		for (size_t m = 0; m < 4; m++)
			expect_parts(all[m], lens[i][0], lens[i][1]);
	}
	ck_bus(bus_pub_send_parts(pub, NULL, 0), 0);
	ck_bus(bus_recv(all[0], 0, &msg), 1);
	ck_assert_uint_eq(msg->len, 0);
	ck_bus(bus_pub_send_parts(NULL, NULL, 0), BUS_E_INVAL);
	ck_bus(bus_pub_send_parts(pub, NULL, 1), BUS_E_INVAL);
	ck_bus(bus_pub_send_parts(pub, &(struct bus_slice){head, SIZE_MAX}, 1), BUS_E_TOO_BIG);
	/* Lengths that wrap round. */
	ck_bus(bus_pub_send_parts(pub, (const struct bus_slice[]){{head, 1}, {head, SIZE_MAX}}, 2),
	    BUS_E_TOO_BIG);
	bus_pub_close(pub);
	for (size_t m = 0; m < 4; m++)
		bus_mailbox_close(all[m]);
	bus_close(bus, 0);
}
END_TEST

START_TEST(loan_arrives_where_it_was_filled)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *one = subscriber(bus, "t");
	struct bus_mailbox *two = subscriber(bus, "#");
	struct bus_mailbox *latest = open_mailbox(bus, "#", .full = BUS_FULL_LATEST);
	struct bus_mailbox *all[] = {one, two, latest};
	struct bus_pub *pub = open_pub(bus);
	const struct bus_msg *msg;
	const size_t lens[] = {0, 1, 1000, 5000, 200000};

	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		void *data = loan(pub, lens[i]);

		ck_bus(bus_pub_commit(pub, data, lens[i]), 0);
		ck_bus(bus_pub_commit(pub, data, lens[i]), BUS_E_INVAL); /* already committed */
		for (size_t m = 0; m < 3; m++) {
			ck_bus(bus_recv(all[m], 0, &msg), 1);
			ck_assert_uint_eq(msg->len, lens[i]);
			ck_assert_ptr_eq(msg->data, data);
		}
	}
	/* Less than was lent may be sent. */
	ck_bus(bus_pub_commit(pub, loan(pub, 5000), 7), 0);
	ck_bus(bus_recv(one, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, 7);
	bus_pub_close(pub);
	for (size_t m = 0; m < 3; m++)
		bus_mailbox_close(all[m]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(refused_loan_is_still_the_callers)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "t", .full = BUS_FULL_REFUSE, .bytes = 4096);
	struct bus_pub *pub = open_pub(bus);
	const struct bus_msg *msg;
	void *first = loan(pub, 3000), *second = loan(pub, 3000);

	ck_bus(bus_pub_commit(pub, first, 3000), 0);
	ck_bus(bus_pub_commit(pub, second, 3000), BUS_E_FULL);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_ptr_eq(msg->data, first);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_bus(bus_pub_commit(pub, second, 3000), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_ptr_eq(msg->data, second);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(loans_end_by_abort_and_with_their_handle)
{
	struct bus *bus = open_bus();
	struct bus_pub *pub = open_pub(bus), *other = open_pub(bus);
	char mine[8];
	void *data = loan(pub, 2000);

	ck_bus(bus_pub_commit(other, data, 10), BUS_E_INVAL);
	ck_bus(bus_pub_commit(pub, mine, 1), BUS_E_INVAL);
	ck_bus(bus_pub_commit(pub, data, 2001), BUS_E_INVAL);
	bus_pub_abort(other, data);
	bus_pub_abort(pub, mine);
	bus_pub_abort(pub, NULL);
	bus_pub_abort(pub, data);
	ck_bus(bus_pub_commit(pub, data, 10), BUS_E_INVAL);
	ck_bus(bus_pub_loan(pub, (1 << 20) + 1, &data), BUS_E_TOO_BIG);
	ck_bus(bus_pub_loan(pub, 1, NULL), BUS_E_INVAL);
	loan(pub, 10);
	loan(pub, 100000);
	bus_pub_close(pub);
	bus_pub_close(other);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(message_outlives_the_handle_that_sent_it)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	struct bus_pub *pub = open_pub(bus);
	const struct bus_msg *msg;
	static char large[5000];

	ck_bus(bus_pub_commit(pub, loan(pub, 3000), 3000), 0);
	ck_bus(bus_pub_send(pub, large, sizeof large), 0);
	bus_pub_close(pub);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(((const char *)msg->data)[2999], 'l');
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, sizeof large);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(closed_bus_ends_loans)
{
	struct bus *bus = open_bus();
	struct bus_pub *pub = open_pub(bus);
	void *data = loan(pub, 2000), *more;

	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_bus(bus_pub_commit(pub, data, 2000), BUS_E_CLOSED);
	ck_bus(bus_pub_loan(pub, 1, &more), BUS_E_CLOSED);
	bus_pub_abort(pub, data);
	bus_pub_close(pub);
}
END_TEST

/* --- pools --------------------------------------------------------------------------------------------- */

START_TEST(returned_blocks_are_used_again)
{
	struct bus__pool *pool = bus__pool_new();
	struct bus__block *first = bus__block_new(pool, 3000), *again;

	bus__block_unref(first);
	again = bus__block_new(pool, 4000); /* the same class */
	ck_assert_ptr_eq(again, first);
	bus__block_unref(again);
	again = bus__block_new(pool, 5000); /* another */
	ck_assert_ptr_ne(again, first);
	bus__block_unref(again);
	again = bus__block_new(pool, 1 << 20); /* none */
	ck_assert_ptr_null(again->pool);
	bus__block_unref(again);
	bus__pool_close(pool);
}
END_TEST

enum { BLOCKS = 64, ROUNDS = 2000, DROPPERS = 3 };

struct exchange {
	struct bus__block *_Atomic slots[BLOCKS];
	_Atomic bool stop;
};

static void *
drop_blocks(void *arg)
{
	struct exchange *x = arg;

	for (bool stop = false; !stop;) {
		struct bus__chain chain = {NULL, NULL};

		stop = x->stop; /* read before the last look */
		for (int i = 0; i < BLOCKS; i++)
			bus__block_unref_to(atomic_exchange(&x->slots[i], NULL), &chain);
		bus__chain_end(&chain);
	}
	return NULL;
}

/* Owners make, several threads drop, and pools end while their blocks are out. */
START_TEST(pools_end_while_others_still_drop_their_blocks)
{
	struct exchange x = {.stop = false};
	pthread_t threads[DROPPERS];

	for (int i = 0; i < DROPPERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, drop_blocks, &x), 0);
	for (int round = 0; round < ROUNDS; round++) {
		struct bus__pool *pool = bus__pool_new();

		for (int i = 0; i < 200; i++) {
			struct bus__block *block = bus__block_new(pool, 1000 + (size_t)i * 100);

			block->data[0] = (uint8_t)i;
			if (i % 2 == 0) /* two references, dropped by two threads */
				bus__block_unref(atomic_exchange(
				    &x.slots[(i + 1) % BLOCKS], bus__block_ref(block)));
			bus__block_unref(atomic_exchange(&x.slots[i % BLOCKS], block));
		}
		bus__pool_close(pool);
	}
	x.stop = true;
	for (int i = 0; i < DROPPERS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("loan");

	BUS_TEST_CASE(suite, "loans", parts_arrive_as_one_payload, loan_arrives_where_it_was_filled,
	    refused_loan_is_still_the_callers, loans_end_by_abort_and_with_their_handle,
	    message_outlives_the_handle_that_sent_it, closed_bus_ends_loans);
	BUS_TEST_CASE(suite, "pools", returned_blocks_are_used_again,
	    pools_end_while_others_still_drop_their_blocks);
	return suite;
}
