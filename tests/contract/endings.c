/* endings.c: unsubscribing, closing and flushing, and links that break. */
#define _GNU_SOURCE
#include "contract.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

void
promise_unsubscribe(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct sender sender = {.rig = &rig, .topic = "n"};
	size_t handed_over;

	open_all(&rig, &inbox, door, "n");
	sender_start(&sender);
	for (int i = 0; i < 100; i++)
		inbox_take(&inbox);
	sender_more(&sender, 100); /* with a caller as drainer they wait */
	bus_unsubscribe(inbox.sub, NULL);
	pthread_mutex_lock(&inbox.lock);
	handed_over = inbox.count;
	pthread_mutex_unlock(&inbox.lock);
	inbox.sub = NULL;
	sender_more(&sender, 100);
	sender_stop(&sender);
	publish(&rig, "mark/it/here", "", 0);
	while (strcmp(inbox_take(&inbox)->topic, "n") == 0)
		ck_assert_uint_le(inbox.taken, handed_over);
	ck_assert_uint_eq(inbox.taken, handed_over + 1);
	close_all(&rig, &inbox);
}

void
promise_close(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	int64_t begun;

	open_all(&rig, &inbox, door, "n");
	inbox_stall(&inbox);
	for (unsigned i = 0; i < 3; i++)
		publish_number(&rig, "n", i);
	ck_eventually(inbox_stats(&inbox).offered == 3 + inbox.stalls);
	begun = bus_test_now_ms();
	/* A message in a callback that has not returned is left, too. */
	ck_assert_int_eq(bus_close(rig.to, 200), 3 + (int)inbox.stalls);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
	inbox_resume(&inbox);
	if (has_link(&rig))
		ck_bus(bus_close(rig.from, patience_ms()), 0);
	bus_link_close(rig.dialled);
	bus_link_close(rig.listener);
	inbox_close(&inbox);
}

void
promise_flush(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	uint64_t before;

	open_all(&rig, &inbox, door, "n");
	before = crossed_so_far(&rig);
	for (unsigned i = 0; i < MANY; i++)
		publish_number(&rig, "n", i);
	ck_bus(bus_flush(rig.from, patience_ms()), 0);
	if (has_link(&rig)) {
		ck_assert_uint_eq(stats_of(rig.listener).sent - before, MANY);
	} else {
		pthread_mutex_lock(&inbox.lock);
		ck_assert_uint_eq(inbox.count, MANY);
		pthread_mutex_unlock(&inbox.lock);
	}
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_uint_eq(number_of(inbox_take(&inbox)), i);
	close_all(&rig, &inbox);
}

void
promise_back(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;

	rig_open(&rig, door);
	retain(&rig, "kept/state", "before");
	inbox_open(&inbox, &rig, 0, 0, FILTERS("kept/#", "live"));
	expect_text(&inbox, "kept/state", "before", true);
	for (int round = 0; round < 2; round++) {
		rig_cut(&rig);
		retain(&rig, "kept/state", round == 0 ? "first" : "second");
		rig_mend(&rig);
		expect_text(&inbox, "kept/state", round == 0 ? "first" : "second", true);
		publish(&rig, "live", "1", 1);
		expect_text(&inbox, "live", "1", false);
		inbox_ends(&inbox);
	}
	close_all(&rig, &inbox);
}

/* The peer that will be killed: wants everything from the address that it reads, and takes nothing. what: the descriptor to
 * read the address from, and a word if it needs user and password. */
static void
be_the_peer(const char *what)
{
	const struct bus_link_config cfg =
	    dial_config(&(struct door){.asks = strchr(what, ' ') != NULL});
	int address = atoi(what);
	char url[256] = "";
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	alarm((unsigned)bus_test_patience());
	(void)bus_transport_register(&own_transport); /* with CK_FORK=no this is a new program */
	if (read(address, url, sizeof url - 1) <= 0)
		_exit(1);
	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_dial(bus, url, &cfg, NULL), 0);
	for (;;)
		pause();
}

/* The member that will be killed: it publishes all the time, so that it often dies inside a publish. */
static void
be_a_member(const char *dir)
{
	struct bus *bus = open_named(dir);

	alarm((unsigned)bus_test_patience());
	for (unsigned i = 0;; i++) {
		ck_bus(bus_publish(bus, "noise", "!", 1), 0);
		if (i % 50 == 49)
			bus_test_nap(); /* so that readers can catch up */
	}
}

static void
kill_member(const struct door *door)
{
	const char *dir = bus_test_dir();
	struct inbox inbox, noise;
	struct rig rig;
	pid_t member = bus_test_fork(); /* before there is a bus */

	ck_assert_int_ge(member, 0);
	if (member == 0)
		be_a_member(dir);
	rig_open(&rig, door);
	inbox_open(&noise, &rig, 0, 0, FILTERS("noise"));
	inbox_take(&noise);
	inbox_close(&noise);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("n"));
	for (unsigned i = 0; i < MANY; i++) {
		if (i == MANY / 2)
			ck_assert_int_eq(kill(member, SIGKILL), 0);
		publish_number(&rig, "n", i);
		ck_assert_uint_eq(number_of(inbox_take(&inbox)), i);
	}
	ck_assert_int_eq(waitpid(member, NULL, 0), member);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

void
promise_killed(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	int address[2];
	char what[16];
	pid_t peer;

	if (is_named(door)) {
		kill_member(door);
		return;
	}
	if (door->scheme == TLS)
		listen_url(TLS); /* the peer inherits the path of the certificates */
	ck_assert_int_eq(pipe(address), 0);
	snprintf(what, sizeof what, "%d%s", address[0], door->asks ? " user" : "");
	peer = bus_test_child(be_the_peer, what);
	ck_assert_int_ge(peer, 0);
	open_all(&rig, &inbox, door, "n");
	ck_assert_int_eq(write(address[1], rig.url, strlen(rig.url)), (ssize_t)strlen(rig.url));
	ck_eventually(stats_of(rig.listener).peers == 2);
	for (unsigned i = 0; i < MANY; i++) {
		if (i == MANY / 2)
			ck_assert_int_eq(kill(peer, SIGKILL), 0);
		publish_number(&rig, "n", i);
	}
	ck_assert_int_eq(waitpid(peer, NULL, 0), peer);
	ck_eventually(stats_of(rig.listener).peers == 1);
	for (unsigned i = 0; i < MANY; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(number_of(item), i);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	inbox_ends(&inbox);
	ck_assert_uint_eq(stats_of(rig.listener).ended[BUS_LINK_END_GONE], 1);
	ck_assert(is_up(rig.dialled));
	close_all(&rig, &inbox);
}
