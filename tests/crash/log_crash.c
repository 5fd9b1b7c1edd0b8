/* crash/log_crash.c: writers and readers of one log are killed and stopped, most of them at the worst moment.
 *
 * After each strike the others have to go on. Readers check every byte that they get, that no number of a writer
 * comes twice or out of order, that what is missing is what they are told, that all of them see the same record under
 * the same sequence, and that the value which a writer keeps is never older than one it knows to be there. A strike may
 * spoil values only while the struck writer moves them within their memory. A writer that was only stopped is continued, in the middle of what it did. */
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "log/log.h"
#include "log/stall.h"
#include "patience.h"

enum {
	WRITERS = 3,
	READERS = 3,
	WORKERS = WRITERS + READERS,
	LIVES = 1 << 16, /* of writers, all in all */
	SEEN = 1 << 20,  /* sequences that readers compare */
	ADVANCE = 20,    /* steps that the others must make after a strike */
	PROMISE_MS =
	    1000, /* within this time on a machine that does nothing else: printed, not asserted */
	STALL_MS = 6
};

struct worker {
	_Atomic uint64_t steps;
	_Atomic int stall_at; /* enum log_stall + 1; 0: none */
	_Atomic bool stalled;
	/* This writer moves values within their memory. A strike there may lose values of before: docs/design/0005-log.md. */
	_Atomic bool moves;
	_Atomic uint64_t at_risk[WRITERS]; /* the newest value of each writer when the move began */
};

/* What all processes share beside the log. */
static struct shared {
	struct worker workers[WORKERS];
	_Atomic uint32_t lives;
	_Atomic uint64_t full; /* appends refused since no segment was free */
	_Atomic uint64_t lost, read, copied, written, kept, spoiled, nameless;
	_Atomic uint64_t
	    begun[WRITERS]; /* the value of the append under way, in the form of `values` */
	_Atomic uint64_t
	    risked[WRITERS]; /* a strike in a move may have spoiled values up to this one */
	_Atomic uint64_t moves_ended;
	_Atomic uint64_t values[WRITERS]; /* life << 40 | number, that is known to be kept */
	_Atomic uint64_t
	    seen[SEEN]; /* sequence << 24 | a hash of the record, as some reader saw it */
} * shared;

static char dir[] = "/dev/shm/libbus-crash-XXXXXX";
static struct worker *self;
static pid_t pids[WORKERS];

static void
fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "log_crash: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	_exit(1);
}

static void
nap(long us)
{
	const struct timespec time = {.tv_nsec = us * 1000};

	nanosleep(&time, NULL);
}

/* A move ended early: it may have spoiled values that existed when it began. */
static void
spoil(struct worker *worker)
{
	for (unsigned i = 0; i < WRITERS; i++) {
		uint64_t risked = shared->risked[i], at_risk = worker->at_risk[i];

		while (risked < at_risk &&
		       !atomic_compare_exchange_weak(&shared->risked[i], &risked, at_risk))
			;
	}
	shared->moves_ended++;
	worker->moves = false;
}

static void
follow_moves(enum log_stall where)
{
	if (where == LOG_STALL_MOVES) {
		for (unsigned i = 0; i < WRITERS; i++)
			self->at_risk[i] = shared->begun[i];
		self->moves = true;
	} else if (where == LOG_STALL_UNMOVED && self->moves) {
		spoil(self);
	} else if (where == LOG_STALL_MOVED && self->moves) {
		shared->moves_ended++;
		self->moves = false;
	}
}

static void
stall(enum log_stall where)
{
	follow_moves(where);
	if (self->stall_at != (int)where + 1)
		return;
	self->stall_at = 0;
	self->stalled = true;
	nap(STALL_MS * 1000);
	self->stalled = false;
}

static struct log *
join_log(void)
{
	struct log *log;
	int err = bus__log_open(dir, "crash", LOG_BYTES_LEAST, &log);

	if (err < 0)
		fail("cannot join: %s", bus_strerror(err));
	return log;
}

/* --- records ---------------------------------------------------------------------------------------------------- */

struct content {
	uint32_t life, len; /* which writer's; of all of it */
	uint64_t number;
	uint8_t filler[400];
};

static uint64_t
mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a * UINT64_C(0x9e3779b97f4a7c15)) ^ (b + UINT64_C(0x7f4a7c15));

	x ^= x >> 29;
	return x * UINT64_C(0xbf58476d1ce4e5b9);
}

static uint64_t
value_of(uint32_t life, uint64_t number)
{
	return (uint64_t)life << 40 | number;
}

static uint32_t
make(struct content *content, uint32_t life, uint64_t number)
{
	uint64_t x = mix(life, number);

	content->life = life;
	content->number = number;
	content->len = 16 + (uint32_t)(x >> 32) % sizeof content->filler;
	for (uint32_t i = 0; i < content->len - 16; i++)
		content->filler[i] = (uint8_t)(x >> (i % 8 * 8));
	return content->len;
}

/* --- writers ------------------------------------------------------------------------------------------------------ */

/* Values have one topic for each writer, all else very many, which come again. */
enum { NAMES = 97, NAME_BYTES = 32 };

static bool
is_kept(uint64_t number)
{
	return number % 50 < 4;
}

static void
name_value(char *name, unsigned writer)
{
	snprintf(name, NAME_BYTES, "value/%u", writer);
}

static void
name_other(char *name, uint32_t life, uint64_t number)
{
	snprintf(name, NAME_BYTES, "job/%u/%u", life, (unsigned)(number / 4 % NAMES));
}

/* How many have one topic from there on. */
static size_t
run_of(uint64_t number)
{
	size_t run = 1;

	while (!is_kept(number) && run <= number % 4 && (number + run) % 4 != 0 &&
	       !is_kept(number + run))
		run++;
	return run;
}

static void
write_for_ever(unsigned writer)
{
	struct log *log = join_log();
	uint32_t life = atomic_fetch_add(&shared->lives, 1);
	struct content contents[4];
	struct bus_slice payloads[4];

	for (uint64_t number = 0;;) {
		/* Also values, one at a time. */
		bool keeps = is_kept(number);
		size_t run = run_of(number);
		char name[NAME_BYTES];
		struct log_topic topic;
		struct log_item item = {.topic = &topic, .flags = keeps ? LOG_RETAIN : 0};
		uint64_t sequence;
		int got;

		if (keeps)
			name_value(name, writer);
		else
			name_other(name, life, number);
		bus__log_topic(log, name, strlen(name), &topic);
		for (size_t i = 0; i < run; i++)
			payloads[i] =
			    (struct bus_slice){&contents[i], make(&contents[i], life, number + i)};
		if (keeps)
			shared->begun[writer] = value_of(life, number);
		got = bus__log_append(log, &item, payloads, run, &sequence);
		if (got == BUS_E_FULL) {
			shared->full++;
			nap(1000);
			continue;
		}
		if (got < 0)
			fail("append: %s", bus_strerror(got));
		if (keeps)
			shared->values[writer] = value_of(life, number);
		number += (uint64_t)got;
		shared->written += (uint64_t)got;
		self->steps++;
		if (number % 64 < 4)
			nap(100);
	}
}

/* --- readers ------------------------------------------------------------------------------------------------------ */

/* All readers see the same under the same sequence. */
static void
compare(uint64_t sequence, const struct content *content)
{
	uint64_t hash = mix(mix(content->life, content->number), content->len) >> 40;
	_Atomic uint64_t *place = &shared->seen[sequence % SEEN];
	uint64_t there = *place;

	while (there >> 24 < sequence)
		if (atomic_compare_exchange_weak(place, &there, sequence << 24 | hash))
			return;
	if (there >> 24 == sequence && (there & 0xffffff) != hash)
		fail("record %llu is not the same for two readers", (unsigned long long)sequence);
}

/* Whether the topic of a record is what its writer said. */
static bool
is_of_its_topic(
    struct log_cursor *cursor, const struct log_record *record, const struct content *content)
{
	char name[NAME_BYTES];
	uint32_t len;
	const char *its = bus__log_name(cursor, record, &len);

	if (is_kept(content->number))
		name_value(name, 0);
	else
		name_other(name, content->life, content->number);
	/* A reader without a pin copies the name only now, and its segment may have gone. */
	if (its == NULL && bus__log_copies(cursor) &&
	    !bus__log_was_there(cursor->segment, cursor->number)) {
		shared->nameless++;
		return true;
	}
	if (its == NULL || len != strlen(name))
		return false;
	if (is_kept(content->number)) /* which writer it was is not known here */
		len--;
	return memcmp(its, name, len) == 0;
}

static void
check(struct log_cursor *cursor, const struct log_record *record, uint64_t *next)
{
	struct content expected;
	struct log_view view;
	const struct content *content;

	if (!bus__log_read(cursor->word, record, &view) || view.len < 16)
		fail("record %llu is damaged", (unsigned long long)cursor->sequence - 1);
	content = (const struct content *)view.data;
	if (content->life >= LIVES || view.len != make(&expected, content->life, content->number) ||
	    memcmp(content, &expected, view.len) != 0)
		fail("record %llu is not what anybody wrote",
		    (unsigned long long)cursor->sequence - 1);
	if (!is_of_its_topic(cursor, record, content))
		fail("record %llu of writer %u, number %llu, has another topic",
		    (unsigned long long)cursor->sequence - 1, content->life,
		    (unsigned long long)content->number);
	if (content->number < next[content->life])
		fail("writer %u: number %llu after %llu", content->life,
		    (unsigned long long)content->number,
		    (unsigned long long)next[content->life] - 1);
	next[content->life] = content->number + 1;
	compare(cursor->sequence - 1, content);
}

/* The value that a topic keeps. Retries while its writer publishes. NULL: the topic keeps none, or the value moves. */
static const struct log_record *
look_up(struct log_cursor *reader, const struct log_topic *topic, uint64_t *ret_tail)
{
	for (;;) {
		const struct log_record *record;

		*ret_tail = bus__log_tail(reader->log);
		record = bus__log_kept(reader, topic, *ret_tail);
		if (record != NULL || reader->moving ||
		    !bus__log_is_kept_behind(reader->log, topic, *ret_tail))
			return record;
	}
}

/* Whether a move hides the value `known`, or a strike in a move may have spoiled it. */
static bool
is_excused(unsigned writer, uint64_t known)
{
	if (known <= shared->risked[writer])
		return true;
	for (unsigned i = 0; i < WRITERS; i++)
		if (shared->workers[i].moves && known <= shared->workers[i].at_risk[writer])
			return true;
	return false;
}

/* Whether the topic of a writer keeps `known` or a newer value. *wrong says what it keeps. */
static bool
value_is_there(struct log_cursor *reader, unsigned writer, uint64_t known, char *wrong, size_t size)
{
	const struct log_record *record;
	const struct content *content;
	char name[NAME_BYTES];
	struct log_topic topic;
	struct log_view view;
	uint64_t tail, number;

	name_value(name, writer);
	bus__log_topic(reader->log, name, strlen(name), &topic);
	record = look_up(reader, &topic, &tail);
	if (record == NULL) {
		snprintf(wrong, size, "nothing at tail %llx%s", (unsigned long long)tail,
		    reader->moving ? ", since it moves" : "");
		return false;
	}
	if (!bus__log_read(reader->word, record, &view) ||
	    view.len < sizeof *content - sizeof content->filler)
		fail(
		    "writer %u keeps a record that cannot be read: its word is %llx; %llx is known, the tail was %llx",
		    writer, (unsigned long long)reader->word, (unsigned long long)known,
		    (unsigned long long)tail);
	content = (const struct content *)view.data;
	number = value_of(content->life, content->number);
	snprintf(
	    wrong, size, "%llx at tail %llx", (unsigned long long)number, (unsigned long long)tail);
	return number >= known;
}

static void
check_value(struct log_cursor *reader, unsigned writer)
{
	uint64_t known = shared->values[writer];
	char wrong[80];

	for (uint64_t looks = 1;; looks++) {
		uint64_t ended = shared->moves_ended;

		if (value_is_there(reader, writer, known, wrong, sizeof wrong)) {
			shared->kept++;
			return;
		}
		if (known == 0)
			return;
		if (is_excused(writer, known)) {
			shared->spoiled++;
			return;
		}
		/* A look after the end of a move finds what the move hid. */
		if (!reader->moving && shared->moves_ended == ended)
			fail("writer %u keeps %s, and not %llx, after %llu looks", writer, wrong,
			    (unsigned long long)known, (unsigned long long)looks);
	}
}

/* Readers that stand still, each in another segment, so that all others have few places to hold. */
static void
stand_still(struct log *log, struct log_cursor held[2], unsigned which)
{
	if (held[which].log != NULL)
		bus__log_cursor_close(&held[which]);
	if (bus__log_cursor_open(log, LOG_FROM_NOW, 0, &held[which]) < 0)
		fail("cannot hold");
}

static void
read_for_ever(unsigned number)
{
	struct log *log = join_log();
	uint64_t *next = calloc(LIVES, sizeof *next), expected;
	struct log_cursor cursor, values, held[2] = {0};
	const struct log_record *record;
	unsigned since = 0;

	if (next == NULL || bus__log_cursor_open(log, LOG_FROM_NOW, 0, &cursor) < 0 ||
	    bus__log_cursor_open(log, LOG_FROM_NOW, 0, &values) < 0)
		fail("cannot read");
	expected = cursor.sequence;
	for (;;) {
		uint64_t lost;

		record = bus__log_next(&cursor);
		if (record == NULL) {
			bus__log_await(&cursor, INT64_MAX);
			continue;
		}
		lost = bus__log_lost(&cursor);
		if (cursor.sequence - 1 != expected + lost)
			fail("record %llu after %llu, %llu lost",
			    (unsigned long long)cursor.sequence - 1,
			    (unsigned long long)expected - 1, (unsigned long long)lost);
		expected = cursor.sequence;
		/* The second and the third are slow in places, with the record before them. */
		if (++since % 5000 == 0)
			nap(number * 20000L);
		if (since % 2000 == 1000)
			stand_still(log, held, since / 2000 % 2);
		if (since % 500 == 0)
			for (unsigned i = 0; i < WRITERS; i++)
				check_value(&values, i);
		check(&cursor, record, next);
		shared->lost += lost;
		shared->read++;
		shared->copied += bus__log_copies(&cursor);
		self->steps++;
	}
}

/* --- strikes ------------------------------------------------------------------------------------------------------ */

static void
spawn(unsigned number)
{
	struct worker *worker = &shared->workers[number];

	worker->stall_at = 0;
	worker->stalled = false;
	pids[number] = fork();
	if (pids[number] < 0)
		fail("fork");
	if (pids[number] > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever ends us ends them */
	self = worker;
	bus__log_stall_hook = stall;
	srand((unsigned)getpid());
	if (number < WRITERS)
		write_for_ever(number);
	else
		read_for_ever(number - WRITERS);
}

/* Whoever ended by itself has said why. */
static void
all_live(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail("a worker ended with %#x", (unsigned)status);
}

/* Waits until each that is not in `struck` has made steps. Milliseconds. */
static int64_t
others_go_on(uint32_t struck)
{
	int64_t begin = bus__now_ns();
	uint64_t steps[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++)
		steps[i] = shared->workers[i].steps;
	for (;;) {
		int64_t ms = (bus__now_ns() - begin) / 1000000;
		unsigned waiting = WORKERS;

		for (unsigned i = 0; i < WORKERS; i++)
			if (!(struck >> i & 1) && shared->workers[i].steps < steps[i] + ADVANCE)
				waiting = i;
		if (waiting == WORKERS)
			return ms;
		all_live();
		if (ms > bus_test_patience() * INT64_C(1000))
			fail("%s %u does not go on", waiting < WRITERS ? "writer" : "reader",
			    waiting);
		nap(500);
	}
}

/* Lets a worker come to a place, and waits a while for that. */
static bool
await_stall(unsigned number, enum log_stall where)
{
	struct worker *worker = &shared->workers[number];

	worker->stall_at = (int)where + 1;
	for (int i = 0; i < 200 && !worker->stalled; i++)
		nap(200);
	worker->stall_at = 0;
	return worker->stalled;
}

struct tally {
	unsigned strikes, kills, stops, inside, doubles, late;
	int64_t worst_ms;
};

/* Returns the bit of the worker if it is dead now. */
static uint32_t
strike(unsigned number, struct tally *tally)
{
	bool kills = rand() % 2 == 0;

	tally->strikes++;
	*(kills ? &tally->kills : &tally->stops) += 1;
	kill(pids[number], kills ? SIGKILL : SIGSTOP);
	return (uint32_t)kills << number;
}

static void
one_round(struct tally *tally)
{
	static const enum log_stall places[] = {LOG_STALL_LOCKED, LOG_STALL_COPIED,
	    LOG_STALL_PUBLISH, LOG_STALL_WAKE, LOG_STALL_CLAIMED, LOG_STALL_ENDED,
	    LOG_STALL_DIRECTORY, LOG_STALL_ROLL, LOG_STALL_CARRIED};
	unsigned victim = (unsigned)rand() % WORKERS, second = WORKERS;
	bool blind = rand() % 10 == 0;
	enum log_stall where = victim < WRITERS  ? places[(unsigned)rand() % 9]
			       : rand() % 2 == 0 ? LOG_STALL_PIN
						 : LOG_STALL_ASKED;
	uint32_t struck = 1u << victim, killed;
	int64_t ms;

	tally->inside += !blind && await_stall(victim, where);
	killed = strike(victim, tally);
	/* Sometimes whoever takes its place is struck too, in the middle of that. */
	if (victim < WRITERS && rand() % 3 == 0) {
		second = (victim + 1 + (unsigned)rand() % (WRITERS - 1)) % WRITERS;
		if (await_stall(second, rand() % 2 == 0 ? LOG_STALL_SEALED : LOG_STALL_CLAIMED)) {
			tally->inside++;
			tally->doubles++;
			killed |= strike(second, tally);
			struck |= 1u << second;
		}
	}
	ms = others_go_on(struck);
	tally->late += ms > PROMISE_MS;
	if (ms > tally->worst_ms)
		tally->worst_ms = ms;
	for (unsigned i = 0; i < WORKERS; i++)
		if (killed >> i & 1) {
			waitpid(pids[i], NULL, 0);
			if (shared->workers[i].moves)
				spoil(&shared->workers[i]);
			spawn(i);
		} else if (struck >> i & 1) {
			kill(pids[i], SIGCONT);
		}
	others_go_on(0); /* those that were stopped, too */
}

static void
usage(FILE *out)
{
	fputs(
	    "usage: log_crash [--strikes N] [--seed N]\n\n"
	    "Kills and stops writers and readers of one log, most of them in the middle of something, and\n"
	    "checks that the others go on and that no record is missing, damaged, twice or out of order.\n",
	    out);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"strikes", required_argument, NULL, 'n'},
	    {"seed", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
	unsigned strikes = 30, seed = 1;
	struct tally tally = {0};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'n')
			strikes = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 's')
			seed = (unsigned)strtoul(optarg, NULL, 10);
		else
			return usage(c == 'h' ? stdout : stderr), c == 'h' ? 0 : 2;
	}
	srand(seed);
	if (mkdtemp(dir) == NULL)
		fail("no directory in /dev/shm");
	shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("no memory");
	for (unsigned i = 0; i < WORKERS; i++)
		spawn(i);
	others_go_on(0);
	while (tally.strikes < strikes) {
		one_round(&tally);
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r%u of %u ", tally.strikes, strikes);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		kill(pids[i], SIGKILL);
	for (unsigned i = 0; i < WORKERS; i++)
		waitpid(pids[i], NULL, 0);
	printf(
	    "seed %u: %u strikes (%u killed, %u stopped; %u inside, %u of them in a take-over or roll after "
	    "another), others went on after %lld ms at worst, %u times later than %d ms\n"
	    "%llu written, %llu read (%llu of them in a copy, %llu of these behind the loss of their name), %llu lost and told, %llu times full, %llu values looked at and %llu that a strike in a move may have spoiled; none damaged, twice, out of order or old\n",
	    seed, tally.strikes, tally.kills, tally.stops, tally.inside, tally.doubles,
	    (long long)tally.worst_ms, tally.late, PROMISE_MS, (unsigned long long)shared->written,
	    (unsigned long long)shared->read, (unsigned long long)shared->copied,
	    (unsigned long long)shared->nameless, (unsigned long long)shared->lost,
	    (unsigned long long)shared->full, (unsigned long long)shared->kept,
	    (unsigned long long)shared->spoiled);
	if (chdir(dir) == 0) {
		unlink("crash.bus");
		unlink("crash.lock");
		rmdir(dir);
	}
	return 0;
}
