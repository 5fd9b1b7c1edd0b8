/* Processes on one log. Each publishes, has a mailbox that stays, opens and closes others, and asks the rest. All see
 * one order; what is missing in the mailbox that stays is what it was told, and what all published together. */
#define _GNU_SOURCE
#include "traffic.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mailbox/mailbox.h"

enum { FILTERS = 4, SUBS = 2, STEPS = 12, ASK_MS = 200 };

/* To ThreadSanitizer what other processes do is invisible, and qemu cannot fork a program with threads: there all of it
 * happens in one. */
static unsigned
count_processes(void)
{
#if defined __SANITIZE_THREAD__
	return 1;
#else
	const char *skip = getenv("BUS_TEST_SKIP");

	return skip != NULL && strstr(skip, "processes") != NULL ? 1 : PUBLISHERS;
#endif
}

/* Where the processes of a round meet, and what they tell each other. */
struct meeting {
	char dir[64];
	pid_t parent;
	unsigned processes;
	_Atomic unsigned arrived;
	_Atomic uint64_t accepted, refused, delivered, lost;
	_Atomic uint64_t others; /* records besides: questions and replies */
};

struct member {
	struct meeting *meeting;
	unsigned id;
	pid_t children[PUBLISHERS]; /* the first one's */
	uint64_t operations, seed;
	struct bus *bus;
	struct bus_mailbox *stays;
	struct reader reader;     /* of it */
	_Atomic uint64_t reached; /* a position that it has seen */
	_Atomic bool over;
};

static void
wait_for_all(const struct member *m, unsigned times)
{
	struct meeting *meeting = m->meeting;

	meeting->arrived++;
	while (meeting->arrived < times * meeting->processes) {
		/* Who fails has said why; then the others are not waited for. */
		for (unsigned i = 1; m->id == 0 && i < meeting->processes; i++)
			must(waitpid(m->children[i], NULL, WNOHANG) == 0);
		stress_nap(500);
	}
}

/* --- mailboxes that come and go ------------------------------------------------------------------------------- */

struct ear {
	struct reader reader;
	uint64_t position; /* of the last one */
};

static void
listen(void *arg, const struct bus_msg *msg)
{
	struct ear *ear = arg;

	must(msg->position > ear->position);
	ear->position = msg->position;
	reader_read(&ear->reader, msg);
}

static struct bus_mailbox_config
some_config(struct member *m, struct dice *dice, struct ear ears[SUBS])
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = dice_below(dice, 4) == 0 ? BUS_FULL_LATEST : BUS_FULL_DROP_OLDEST,
	    .drain = dice_below(dice, 2) == 0 ? BUS_DRAIN_CALLER : BUS_DRAIN_THREAD,
	    .from = (int)dice_below(dice, BUS_FROM_TIME + 1)};
	struct timespec now;

	if (cfg.full == BUS_FULL_LATEST) /* it has one cell for each topic, in no order */
		cfg.from = BUS_FROM_NOW;
	if (cfg.from == BUS_FROM_LAST)
		cfg.from_value = dice_below(dice, 200);
	if (cfg.from == BUS_FROM_POSITION) {
		uint64_t reached = m->reached; /* it rises meanwhile */

		cfg.from_value = reached - dice_below(dice, 1 + (uint32_t)(reached % 5000));
		cfg.from_epoch = bus_epoch(m->bus);
		for (int i = 0; i < SUBS; i++)
			ears[i].position = cfg.from_value;
	}
	if (cfg.from == BUS_FROM_TIME) {
		clock_gettime(CLOCK_REALTIME, &now);
		cfg.from_value = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec -
				 dice_below(dice, 20000000);
	}
	return cfg;
}

static void
use(struct bus_mailbox *mbox, int drain, struct dice *dice)
{
	for (uint32_t steps = dice_below(dice, STEPS); steps > 0; steps--)
		if (drain != BUS_DRAIN_CALLER)
			stress_nap(100);
		else
			must(bus_dispatch(mbox, (int)dice_below(dice, 2), dice_below(dice, 50)) >=
			     0);
}

static void
open_and_close(struct member *m, struct dice *dice)
{
	static const char *const filters[] = {"s/#", "+/b", "t/c/d", "u/#", "u", "x/y", "t/+", "/"};
	struct ear *ears = calloc(SUBS, sizeof *ears);
	struct bus_sub *subs[SUBS] = {NULL};
	struct bus_mailbox_config cfg;
	struct bus_mailbox *mbox, *counters;

	must(ears != NULL);
	cfg = some_config(m, dice, ears);
	must(bus_mailbox_open(m->bus, &cfg, &mbox) == 0);
	counters = bus__mailbox_ref(mbox); /* to be read when it is gone */
	for (int i = 0; i < SUBS; i++)
		must(bus_mailbox_subscribe(mbox, filters[dice_below(dice, 8)],
			 cfg.full == BUS_FULL_LATEST ? reader_read : listen, &ears[i],
			 &subs[i]) == 0);
	use(mbox, cfg.drain, dice);
	if (dice_below(dice, 2) == 0) {
		bus_unsubscribe(subs[0], NULL);
		subs[0] = NULL;
		use(mbox, cfg.drain, dice);
	}
	bus_mailbox_close(mbox);
	for (int i = 0; i < SUBS; i++)
		bus_unsubscribe(subs[i], NULL);
	must_eq(traffic_stats(counters).pending, 0);
	bus__mailbox_unref(counters);
	free(ears);
}

/* --- questions ---------------------------------------------------------------------------------------------------- */

struct question {
	uint64_t number;
	uint64_t whom;
};

static void
answer(void *arg, const struct bus_msg *msg)
{
	struct member *m = arg;
	struct question question;

	must(msg->len == sizeof question);
	memcpy(&question, msg->data, sizeof question);
	must_eq(question.whom, m->id);
	question.number = ~question.number;
	bus_reply(m->bus, msg, &question, sizeof question);
}

/* Who is lapped does not get the question, or its reply. */
static void
ask(struct member *m, struct dice *dice)
{
	struct question question = {
	    dice_below(dice, UINT32_MAX), dice_below(dice, m->meeting->processes)};
	const struct bus_msg *reply;
	struct question answered;
	char topic[20];
	int err;

	snprintf(topic, sizeof topic, "ask/%u", (unsigned)question.whom);
	m->meeting->others += 2;
	err = bus_request(m->bus, topic, &question, sizeof question, ASK_MS, &reply);
	must(err == 0 || err == BUS_E_TIMEDOUT || err == BUS_E_FULL);
	if (err < 0)
		return;
	must(reply->len == sizeof answered);
	memcpy(&answered, reply->data, sizeof answered);
	must_eq(answered.number, ~question.number);
	must_eq(answered.whom, question.whom);
	bus_msg_free(reply);
}

static void *
storm(void *arg)
{
	struct member *m = arg;
	struct dice dice = dice_of(m->seed, PUBLISHERS + m->id);

	while (!m->over)
		if (dice_below(&dice, 3) == 0)
			ask(m, &dice);
		else
			open_and_close(m, &dice);
	return NULL;
}

/* --- a member ----------------------------------------------------------------------------------------------------- */

static void
read_all(void *arg, const struct bus_msg *msg)
{
	struct member *m = arg;

	must(msg->position > m->reached);
	m->reached = msg->position;
	reader_read(&m->reader, msg);
}

static void
open_all(struct member *m, struct bus_mailbox **ret_answers)
{
	static const char *const filters[FILTERS] = {"s/#", "t/#", "u/#", "/"};
	const struct bus_config place = {
	    .size = sizeof place, .dir = m->meeting->dir, .log_bytes = 4 << 20};
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	char topic[20];

	must(bus_open("stress", &place, &m->bus) == 0);
	must(bus_mailbox_open(m->bus, &cfg, &m->stays) == 0);
	for (int i = 0; i < FILTERS; i++)
		must(bus_mailbox_subscribe(m->stays, filters[i], read_all, m, NULL) == 0);
	must(bus_mailbox_open(m->bus, &cfg, ret_answers) == 0);
	snprintf(topic, sizeof topic, "ask/%u", m->id);
	must(bus_mailbox_subscribe(*ret_answers, topic, answer, m, NULL) == 0);
}

static bool
is_through(struct member *m)
{
	struct bus_stats s = {.size = sizeof s};

	for (unsigned i = 0; i < PUBLISHERS * TOPICS; i++)
		if (!m->reader.ended[i])
			return false;
	must(bus_mailbox_stats(m->stays, &s) == 0);
	return s.reached >= s.goal && s.delivered == m->reader.got;
}

/* What all have published came, or is what this mailbox was told that it lost. */
static void
check_accounts(struct member *m)
{
	struct bus_stats s = traffic_stats(m->stays);
	uint64_t lost = traffic_lost(&s);

	must_eq(lost, s.lost[BUS_LOSS_LAPPED]);
	must_eq(lost, m->reader.told);
	must_eq(m->reader.got + m->reader.gaps, m->meeting->accepted);
	/* And that a process has joined is a record, too. */
	must(lost >= m->reader.gaps &&
	     lost <= m->reader.gaps + m->meeting->others + m->meeting->processes);
	m->meeting->delivered += m->reader.got;
	m->meeting->lost += lost;
}

static void
take_part(struct member *m)
{
	unsigned each = PUBLISHERS / m->meeting->processes;
	struct publisher publishers[PUBLISHERS];
	struct crew publishing, storming;
	struct bus_mailbox *answers;

	m->reader.in_order = true;
	open_all(m, &answers);
	for (unsigned i = 0; i < each; i++)
		publishers[i] =
		    publisher_of(m->bus, m->id * each + i, m->operations / PUBLISHERS, m->seed, 0);
	wait_for_all(m, 1);
	crew_start(
	    &publishing, m->seed + m->id, each, publisher_run, publishers, sizeof publishers[0]);
	crew_start(&storming, m->seed + PUBLISHERS + m->id, 1, storm, m, sizeof *m);
	crew_join(&publishing);
	m->over = true;
	crew_join(&storming);
	wait_for_all(m, 2); /* so that nothing goes over what is said last */
	for (unsigned i = 0; i < each; i++) {
		publisher_say_last(&publishers[i]);
		m->meeting->accepted += publishers[i].accepted;
		m->meeting->refused += publishers[i].refused + publishers[i].unsure;
	}
	wait_for_all(m, 3);
	while (!is_through(m))
		stress_nap(500);
	check_accounts(m);
	wait_for_all(m, 4);
	for (unsigned i = 0; i < each; i++)
		publisher_close(&publishers[i]);
	bus_mailbox_close(answers);
	bus_mailbox_close(m->stays);
	must(bus_close(m->bus, stress_patience_ms()) == 0);
}

/* --- a round ------------------------------------------------------------------------------------------------------- */

static struct meeting *
begin(void)
{
	struct meeting *meeting =
	    mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(meeting != MAP_FAILED);
	strcpy(meeting->dir, "/dev/shm/libbus-stress-XXXXXX");
	must(mkdtemp(meeting->dir) != NULL);
	meeting->parent = getpid();
	meeting->processes = count_processes();
	return meeting;
}

static pid_t
start(struct member *m)
{
	pid_t child = fork();

	must(child >= 0);
	if (child != 0)
		return child;
	must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == m->meeting->parent);
	take_part(m);
	_exit(0);
}

static void
processes_round(const struct scenario *scenario, struct round *round)
{
	struct member *m = calloc(PUBLISHERS, sizeof *m);
	struct meeting *meeting = begin();
	int status = 0;

	(void)scenario;
	must(m != NULL);
	for (unsigned i = meeting->processes; i-- > 0;) {
		m[i].meeting = meeting;
		m[i].id = i;
		m[i].operations = round->operations;
		m[i].seed = round->seed;
		if (i > 0)
			m[0].children[i] = start(&m[i]);
	}
	take_part(&m[0]);
	for (unsigned i = 1; i < meeting->processes; i++)
		must(waitpid(m[0].children[i], &status, 0) == m[0].children[i] && status == 0);
	round->delivered = meeting->delivered;
	round->lost = meeting->lost;
	round->refused = meeting->refused;
	must(rmdir(meeting->dir) == 0); /* the last one has left nothing behind */
	munmap(meeting, sizeof *meeting);
	free(m);
}

const struct scenario named_scenarios[] = {
    {"processes", "three on one log: one order for all, mailboxes from anywhere in it, questions",
	2, 100000, processes_round, 0, 0},
    {0},
};
