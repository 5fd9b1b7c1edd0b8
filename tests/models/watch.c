/* Mailboxes of one bus with a log, which rest while another process writes: one of them sleeps on the log for both. The public
 * calls, as they stand, over the log of a model. A wake-up that is lost leaves a mailbox asleep for ever, which relacy calls a deadlock:
 * no sleep ends by itself here. */
#include "log_model.h"

#include <string.h>

#include <libbus/bus.h>
#include <libbus/error.h>

#include "base/mem.h"
#include "named/state.h"
#include "mailbox/parts.h"
#include "named/reader.h"

enum { WRITER = 0, OWNER = 2, MAILBOXES = 2 };

static struct bus *bus;
static struct bus_mailbox *mbox[MAILBOXES];
static struct bus_sub *sub[MAILBOXES];
static uint64_t got[MAILBOXES], last[MAILBOXES];

static void
begin(uint32_t segments, const char *first, const char *second)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = RING_MIN_BYTES};
	const char *filters[MAILBOXES] = {first, second};

	model_log_open(segments);
	model_check(bus_open(NULL, NULL, &bus) == 0);
	/* A named bus, but for its files. */
	bus->log = &model_log[OWNER];
	bus->kind = &bus__named_kind;
	bus->named = bus__calloc(1, sizeof *bus->named);
	model_check(bus->named != NULL && bus__watch_init(&bus->named->watch) == 0);
	bus->named->next_look_ns = INT64_MAX;
	for (int i = 0; i < MAILBOXES; i++) {
		model_check(bus_mailbox_open(bus, &cfg, &mbox[i]) == 0);
		model_check(bus_mailbox_subscribe(mbox[i], filters[i], NULL, NULL, &sub[i]) == 0);
		model_share("wakes", &mbox[i]->wakes, sizeof mbox[i]->wakes);
		got[i] = last[i] = 0;
	}
	model_share("pins lock", &bus->log->pins_lock, sizeof bus->log->pins_lock);
	model_share("pinned", bus->log->pinned, sizeof bus->log->pinned);
	model_share(
	    "sleeper", (void *)&bus->named->watch.sleeper, sizeof bus->named->watch.sleeper);
	model_share("changes", &bus->named->watch.changes, sizeof bus->named->watch.changes);
	model_share("watch lock", &bus->named->watch.lock, sizeof bus->named->watch.lock);
}

static void
end(void)
{
	for (int i = 0; i < MAILBOXES; i++) {
		bus_unsubscribe(sub[i], NULL);
		bus_mailbox_close(mbox[i]);
	}
	bus__watch_fini(&bus->named->watch);
	bus__free(bus->named);
	bus->named = NULL;
	bus->kind = &bus__private_kind;
	bus->log = NULL;
	model_check(bus_close(bus, 0) == 0);
	model_log_close();
}

/* Takes one message. false: the mailbox was closed. */
static bool
take(int i)
{
	const struct bus_msg *msg;
	int err = bus_recv(mbox[i], -1, &msg);

	if (err == BUS_E_CLOSED)
		return false;
	model_check(err == 1);
	model_check(msg->position > last[i]);
	last[i] = msg->position;
	got[i]++;
	return true;
}

static uint64_t
lapped(int i)
{
	return atomic_load(&mbox[i]->lapped);
}

/* --- two topics: who leads is hit, and the other's record comes while it hands on ------------------------------------- */

enum { EACH = 2 };

static void
before_two(void)
{
	begin(8, "t", "u");
}

static void
thread_two(int index)
{
	if (index == WRITER) {
		for (int i = 0; i < EACH; i++) {
			model_pause(600); /* the way to rest is long */
			model_append_to(WRITER, MODEL_T);
			model_pause(200);
			model_append_to(WRITER, MODEL_OTHER);
		}
		return;
	}
	for (int i = 0; i < EACH; i++)
		take(index - 1);
}

static void
after_two(void)
{
	for (int i = 0; i < MAILBOXES; i++)
		model_check(got[i] == EACH && lapped(i) == 0);
	end();
}

static const struct control controls_two[] = {
    {"a mailbox goes quiet without a look whether the log has gone on", "bus__log_ask", "tail",
	OP_CAS, BLIND, "DEADLOCK"},
    {"the word of the next leader does not change", "hand_on", "wakes", OP_RMW, SKIPPED,
	"DEADLOCK"},
    {"a hit does not change the mailbox's word", "bus__mailbox_stir", "wakes", OP_RMW, SKIPPED,
	"DEADLOCK"},
    {"a mailbox goes quiet beside the scan", "enter", "watch lock", OP_RMW, SKIPPED, "DATA RACE"},
    {NULL},
};

const struct model model_watch = {
    .name = "watch",
    .shows =
	"one thread sleeps for two mailboxes: no record that either wants is slept on while the lead changes",
    .threads = 3,
    .before = before_two,
    .thread = thread_two,
    .after = after_two,
    .schedules = 2000,
    .controls = controls_two,
};

/* --- one topic and three segments: what went by is counted for each ---------------------------------------------------- */

enum { ALL = 10 }; /* the writer comes round twice */

static void
before_lapped(void)
{
	begin(3, "t", "t");
}

static void
thread_lapped(int index)
{
	if (index == WRITER) {
		for (int i = 0; i < ALL; i++)
			model_append_to(WRITER, MODEL_T);
		return;
	}
	model_pause(200);
	while (last[index - 1] < ALL)
		take(index - 1);
}

static void
after_lapped(void)
{
	for (int i = 0; i < MAILBOXES; i++)
		model_check(got[i] + lapped(i) == ALL);
	end();
}

static const struct control controls_lapped[] = {
    {"a reader does not hold its segment", "pin_first", "pins", OP_STORE, SKIPPED, "DATA RACE"},
    {"two cursors of a process let go at once", "bus__log_unpin", "pins lock", OP_RMW, SKIPPED,
	"DATA RACE"},
    {"a mailbox goes quiet beside the scan", "enter", "watch lock", OP_RMW, SKIPPED, "DATA RACE"},
    {NULL},
};

const struct model model_watch_lapped = {
    .name = "watch_lapped",
    .shows = "a mailbox that holds no cursor gets or counts each record, and none twice",
    .threads = 3,
    .before = before_lapped,
    .thread = thread_lapped,
    .after = after_lapped,
    .schedules = 2000,
    .controls = controls_lapped,
};

/* --- what begins and ends while they rest --------------------------------------------------------------------------------- */

static struct bus_sub *more;

static void
before_begins(void)
{
	begin(8, "x", "u");
	more = NULL;
}

static void
thread_begins(int index)
{
	if (index == 1) {
		take(0);
	} else if (index == 2) {
		while (take(1))
			;
	} else {
		model_pause(600);
		/* The scan learns that no subscription wants "t"; then the first mailbox, which rests, subscribes to it. */
		model_append_to(WRITER, MODEL_T);
		model_pause(300);
		model_check(bus_mailbox_subscribe(mbox[0], "t", NULL, NULL, &more) == 0);
		model_append_to(WRITER, MODEL_T);
		model_append_to(WRITER, MODEL_OTHER);
		model_pause(600);
		/* No record: what ends this sleep is said in the process alone. */
		bus__mailbox_shut(mbox[1]);
	}
}

static void
after_begins(void)
{
	model_check(got[0] == 1 && last[0] == 2 && lapped(0) == 0 && got[1] <= 1);
	bus_unsubscribe(more, NULL);
	end();
}

static const struct control controls_begins[] = {
    {"a subscription does not make the scan forget", "bus__watch_changed", "changes", OP_RMW,
	SKIPPED, "DEADLOCK"},
    {"a sleeper on the log leaves no note", "lead", "sleeper", OP_STORE, SKIPPED, "DEADLOCK"},
    {"a sleeper on the log leaves its note relaxed", "lead", "sleeper", OP_STORE, RELAXED,
	"DEADLOCK"},
    {"a sleeper on the log does not read its word again", "lead", "wakes", OP_LOAD, RELAXED,
	"DEADLOCK"},
    {NULL},
};

const struct model model_watch_begins = {
    .name = "watch_begins",
    .shows =
	"a subscription that begins on a quiet mailbox misses nothing, and its end wakes the sleeper on the log",
    .threads = 3,
    .before = before_begins,
    .thread = thread_begins,
    .after = after_begins,
    .schedules = 2000,
    .controls = controls_begins,
};
