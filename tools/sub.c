/* libbus sub, and libbus log tail: print messages. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BEGINNINGS_HELP                                                                               \
	"Where to begin in the log of a named bus; give one of these four:\n"                         \
	"  --oldest                begin with the oldest message in the log\n"                        \
	"  --last N                begin with the last N messages of these topics, at most 10000\n"   \
	"  --since AGO             begin with the messages of the last AGO seconds, or 5m, 2h, 1d\n"  \
	"  --after POSITION        begin after the message at this position\n"                        \
	"  --epoch EPOCH           with --after: fail if the bus has ended and started again since\n" \
	"Output:\n"

static const char help[] =
    "Usage: libbus sub BUS FILTER... [OPTION]...\n"
    "       libbus sub FILTER... --dial URL|--listen URL [OPTION]...\n"
    "\n"
    "Prints each message whose topic matches a FILTER as one line: topic, space, value as\n"
    "JSON (text without quotes). In a filter + matches one level and # all levels that follow:\n"
    "quote them. Retained values are printed first. Lost messages are reported on stderr.\n"
    "\n" CLI_OPTIONS_HELP BEGINNINGS_HELP
    "  --positions             start each line with position and time, - for a missing one\n"
    "  --json                  print one JSON object per line: topic, value, kept, lost; position\n"
    "                          and time if the message has them; the epoch of a named bus\n"
    "  --count N               end after N messages\n"
    "  --timeout SECONDS       end after this time, with status 3\n"
    "  --connect-timeout SECONDS\n"
    "                          give up if an address is not connected by then (never)\n"
    "  --help                  this text\n"
    "\n"
    "To resume after the last line that --json printed, give its position and epoch: --after POSITION\n"
    "--epoch EPOCH. If the bus has ended and started again since, sub fails and prints nothing.\n"
    "\n"
    "A retained value has the time of its publication, but no position. On a private bus no message\n"
    "has a position, and only retained messages have a time.\n"
    "\n"
    "Examples:\n"
    "  libbus sub home 'room/#'\n"
    "  libbus sub home --last 10 --count 10 room/kitchen/temperature\n"
    "  libbus sub --dial ipc:///tmp/host.sock 'host/+/temperature/#'\n"
    "  libbus sub --dial tcp://127.0.0.1:5555 --count 1 --timeout 5 room/kitchen/temperature\n"
    "  libbus sub --listen ipc:///tmp/all.sock --json '#' > all.jsonl\n"
    "\n"
    "Exit status: 0 --count was reached, Ctrl-C, or the output was closed;\n"
    "1 failure; 2 wrong command line; 3 the --timeout ran out.\n"
    "Read on: docs/tutorial.md, docs/named-bus.md\n";

static const char tail_help[] =
    "Usage: libbus log tail BUS [FILTER]... [OPTION]...\n"
    "\n"
    "Prints the last ten messages in the log, then each new one, one per line: position, time of\n"
    "publication, topic, value. Without a FILTER it prints all topics. In a filter + matches one\n"
    "level and # all levels that follow: quote them. Lost messages are reported on stderr.\n"
    "\n" CLI_NAMED_OPTIONS_HELP BEGINNINGS_HELP
    "  --json                  print one JSON object per line: topic, value, kept, lost, position,\n"
    "                          time, epoch\n"
    "  --count N               end after N messages\n"
    "  --timeout SECONDS       end after this time, with status 3\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  libbus log tail home\n"
    "  libbus log tail home 'room/#' --last 3 --count 3\n"
    "  libbus log tail home --oldest --timeout 1\n"
    "\n"
    "Exit status: as libbus sub.\n"
    "Read on: docs/named-bus.md\n";

enum {
	TAIL_LAST = 10,
	LAST_MOST = 10000,  /* the limit of BUS_FROM_LAST */
	NOTE_MS = 2000,     /* report a link that is not connected after this time */
	LOOK_MS = 50,       /* between checks of links that are not connected yet */
	BETWEEN_POLLS = 64, /* messages taken before the next look at signals and stdout */
	MAILBOX_BYTES = 4 * 1024 * 1024, /* holds a burst while a slow terminal prints */
};

struct sub {
	struct cli cli;
	struct bus_mailbox *mbox;
	uint64_t epoch; /* of the bus; 0: a private bus */
	bool json, positions;
	int beginning; /* the option that chose the first message; 0: none */
	long count;
	int64_t timeout_ms;
	struct bus_mailbox_config mailbox;
};

static bool
whole_number(const char *option, const char *value, unsigned long long least, uint64_t *ret_number)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (errno || end == value || *end != '\0' || value[0] == '-' || number < least) {
		complain("--%s %s: give a whole number from %llu up", option, value, least);
		return false;
	}
	*ret_number = number;
	return true;
}

/* Parses an age such as 90 or 5m. Returns the moment that long ago, in ns since 1970. */
static bool
time_ago(const char *value, uint64_t *ret_ns)
{
	static const char units[] = "smhd";
	static const int seconds[] = {1, 60, 60 * 60, 24 * 60 * 60};
	const double most = 1e9; /* seconds; no log in memory is older */
	struct timespec now;
	const char *unit;
	double ago, since;
	char *end;

	ago = strtod(value, &end);
	unit = end != value && *end != '\0' ? strchr(units, *end) : NULL;
	if (unit != NULL) {
		ago *= seconds[unit - units];
		end++;
	}
	if (end == value || *end != '\0' || !(ago > 0 && ago <= most)) {
		complain("--since %s: give seconds, or minutes, hours or days, like 5m, 2h or 1d",
		    value);
		return false;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	since = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - ago;
	*ret_ns = since > 0 ? (uint64_t)(since * 1e9) : 0;
	return true;
}

static bool
take_beginning(struct sub *sub, int option, const char *value)
{
	struct bus_mailbox_config *mailbox = &sub->mailbox;

	if (sub->beginning != 0 && sub->beginning != option) {
		complain(
		    "--oldest, --last, --since and --after exclude each other: give one of them");
		return false;
	}
	sub->beginning = option;
	switch (option) {
	case 'o':
		mailbox->from = BUS_FROM_OLDEST;
		return true;
	case 'n':
		mailbox->from = BUS_FROM_LAST;
		if (!whole_number("last", value, 0, &mailbox->from_value))
			return false;
		if (mailbox->from_value > LAST_MOST)
			complain("--last %s: give at most %d", value, LAST_MOST);
		return mailbox->from_value <= LAST_MOST;
	case 'a':
		mailbox->from = BUS_FROM_POSITION;
		return whole_number("after", value, 0, &mailbox->from_value);
	default:
		mailbox->from = BUS_FROM_TIME;
		return time_ago(value, &mailbox->from_value);
	}
}

static bool
take_option(void *arg, int option, const char *value)
{
	struct sub *sub = arg;
	uint64_t count;

	switch (option) {
	case 'o':
	case 'n':
	case 'a':
	case 's':
		return take_beginning(sub, option, value);
	case 'e':
		return whole_number("epoch", value, 1, &sub->mailbox.from_epoch);
	case 'p':
		sub->positions = true;
		return true;
	case 'j':
		sub->json = true;
		return true;
	case 'T':
		return cli_seconds("timeout", value, &sub->timeout_ms);
	default:
		if (!whole_number("count", value, 1, &count))
			return false;
		sub->count = count < LONG_MAX ? (long)count : LONG_MAX;
		return true;
	}
}

/* --- printing ---------------------------------------------------------------------------------------- */

/* Prints position and time, - for a missing one. */
static void
print_position(const struct bus_msg *msg)
{
	time_t seconds = (time_t)(msg->time_ns / 1000000000);
	struct tm local;
	char text[32];

	if (msg->position != 0)
		printf("%10" PRIu64 " ", msg->position);
	else
		printf("%10s ", "-");
	if (msg->time_ns != 0 && localtime_r(&seconds, &local) != NULL) {
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
		printf("%s.%03d ", text, (int)(msg->time_ns / 1000000 % 1000));
	} else {
		printf("%-23s ", "-");
	}
}

static int
print_message(const struct sub *sub, const struct bus_msg *msg)
{
	const struct bus_value topic = {
	    .kind = BUS_KIND_TEXT,
	    .count = (uint32_t)strlen(msg->topic),
	    .as.bytes = msg->topic,
	};
	const struct bus_value *value;
	int err = bus_value_read(msg->type, msg->data, msg->len, &value);

	if (err == BUS_E_DECODE) {
		complain_of(msg->topic, err);
		err = bus_value_read(BUS_TYPE_BYTES, msg->data, msg->len, &value);
	}
	if (err < 0)
		return err;
	if (sub->json) {
		fputs("{\"topic\":", stdout);
		err = print_json(&topic);
		fputs(",\"value\":", stdout);
		if (err == 0)
			err = print_json(value);
		printf(",\"kept\":%s,\"lost\":%" PRIu64,
		    msg->flags & BUS_MSG_KEPT ? "true" : "false", msg->lost);
		if (msg->flags & BUS_MSG_LOST_AT_LEAST)
			fputs(",\"lost_unknown\":true", stdout);
		if (msg->position != 0)
			printf(",\"position\":%" PRIu64, msg->position);
		if (msg->time_ns != 0)
			printf(",\"time\":%.3f", (double)msg->time_ns / 1e9);
		/* As text: an epoch has 64 bits, and many JSON readers keep only 53 of a number. */
		if (sub->epoch != 0)
			printf(",\"epoch\":\"%" PRIu64 "\"", sub->epoch);
		puts("}");
	} else {
		if (msg->flags & BUS_MSG_LOST_AT_LEAST)
			complain("lost at least %" PRIu64
				 " messages before this one: the peer of a link restarted",
			    msg->lost);
		else if (msg->lost > 0)
			complain("lost %" PRIu64 " messages before this one", msg->lost);
		if (sub->positions)
			print_position(msg);
		err = print_plain(&topic);
		putchar(' ');
		if (err == 0)
			err = print_plain(value);
		putchar('\n');
	}
	bus_value_free(value);
	return err;
}

/* --- receiving --------------------------------------------------------------------------------------- */

/* Waits for the links: prints one notice at note_ms, gives up at give_up_ms. */
struct watch {
	int64_t note_ms, give_up_ms;
	bool up;
};

static bool
watch_links(const struct sub *sub, struct watch *watch)
{
	const struct cli_link *missing;
	int64_t now = now_ms();
	int reason;

	if (watch->up)
		return true;
	missing = cli_unconnected(&sub->cli, &reason);
	watch->up = missing == NULL;
	if (missing && now >= watch->give_up_ms) {
		complain_unconnected(missing, reason, "gave up (--connect-timeout)");
		return false;
	}
	if (missing && now >= watch->note_ms) {
		complain_unconnected(missing, reason, "still trying");
		watch->note_ms = INT64_MAX;
	}
	return true;
}

/* stdout failed. A closed pipe is no failure: its reader has finished. */
static enum status
output_ended(void)
{
	if (errno == EPIPE)
		return STATUS_OK;
	complain("stdout: %s", strerror(errno));
	return STATUS_FAILED;
}

static enum status
receive(struct sub *sub, int signals)
{
	enum { MAILBOX, SIGNALS, OUTPUT };
	struct pollfd fds[] = {
	    [MAILBOX] = {.fd = bus_mailbox_fd(sub->mbox), .events = POLLIN},
	    [SIGNALS] = {.fd = signals, .events = POLLIN},
	    [OUTPUT] = {.fd = STDOUT_FILENO}, /* POLLERR: the reader closed its end */
	};
	int64_t start = now_ms(), deadline = sub->timeout_ms ? start + sub->timeout_ms : INT64_MAX;
	struct watch watch = {
	    .note_ms = start + NOTE_MS,
	    .give_up_ms = sub->cli.connect_ms ? start + sub->cli.connect_ms : INT64_MAX,
	};

	if (fds[MAILBOX].fd < 0) {
		complain_of("mailbox", fds[MAILBOX].fd);
		return STATUS_FAILED;
	}
	for (long seen = 0; sub->count == 0 || seen < sub->count;) {
		int64_t left = deadline == INT64_MAX ? -1 : deadline - now_ms();
		const struct bus_msg *msg;
		int got, err;

		if (deadline != INT64_MAX && left <= 0)
			return STATUS_TIMED_OUT;
		if (!watch_links(sub, &watch))
			return STATUS_FAILED;
		if (!watch.up && (left < 0 || left > LOOK_MS))
			left = LOOK_MS;

		got = bus_recv(sub->mbox, 0, &msg);
		err = got > 0 ? print_message(sub, msg) : got;
		if (err < 0) {
			complain_of("receiving", err);
			return STATUS_FAILED;
		}
		/* Buffer lines only while more messages wait. */
		if (got == 0)
			fflush(stdout);
		if (ferror(stdout))
			return output_ended();
		if (got > 0 && ++seen % BETWEEN_POLLS != 0)
			continue;
		if (poll(fds, 3, got > 0 ? 0 : (int)left) < 0 && errno != EINTR) {
			complain("poll: %s", strerror(errno));
			return STATUS_FAILED;
		}
		if (fds[SIGNALS].revents || fds[OUTPUT].revents)
			return STATUS_OK;
	}
	return fflush(stdout) == 0 ? STATUS_OK : output_ended();
}

static enum status
run(struct sub *sub)
{
	enum status status = STATUS_FAILED;
	int signals, err;
	struct bus *bus;

	if (sub->mailbox.from_epoch != 0 && sub->mailbox.from != BUS_FROM_POSITION) {
		complain("--epoch needs --after: give the position of that epoch");
		return STATUS_USAGE;
	}
	signals = cli_signals();
	if (signals < 0)
		return STATUS_FAILED;
	bus = cli_open_bus(&sub->cli);
	if (bus == NULL)
		goto close_signals;
	sub->epoch = bus_epoch(bus);
	err = bus_mailbox_open(bus, &sub->mailbox, &sub->mbox);
	if (err < 0) {
		if (err == BUS_E_NOTSUP)
			complain("--oldest, --last, --since and --after need a named bus: a "
				 "private bus has no log");
		else
			complain_of(sub->cli.bus != NULL ? sub->cli.bus : "bus", err);
		goto close_bus;
	}
	status = cli_subscribe(&sub->cli, sub->mbox);
	if (status == STATUS_OK && !cli_open_links(&sub->cli, bus))
		status = STATUS_FAILED;
	if (status == STATUS_OK) {
		cli_note_alone(&sub->cli, bus);
		status = receive(sub, signals);
	}
	bus_mailbox_close(sub->mbox);
close_bus:
	bus_close(bus, 0);
close_signals:
	close(signals);
	return status;
}

/* clang-format off */
#define OPTIONS                                                                                    \
	{"json", no_argument, NULL, 'j'},                                                          \
	{"count", required_argument, NULL, 'c'},                                                   \
	{"oldest", no_argument, NULL, 'o'},                                                        \
	{"last", required_argument, NULL, 'n'},                                                    \
	{"since", required_argument, NULL, 's'},                                                   \
	{"after", required_argument, NULL, 'a'},                                                   \
	{"epoch", required_argument, NULL, 'e'},                                                   \
	{"timeout", required_argument, NULL, 'T'}
/* clang-format on */

enum status
sub_main(int argc, char **argv)
{
	static const struct option options[] = {
	    CLI_OPTIONS,
	    OPTIONS,
	    {"positions", no_argument, NULL, 'p'},
	    {0},
	};
	struct sub sub = {.mailbox = {.size = sizeof sub.mailbox, .bytes = MAILBOX_BYTES}};
	enum status status;

	if (!cli_parse(&sub.cli, argc, argv, options, help, take_option, &sub, &status)) {
		;
	} else if (sub.cli.word_count == 0) {
		complain("the filter is missing: give topics, or '#' for all: libbus sub %s'#'",
		    sub.cli.bus != NULL ? "BUS " : "");
		status = STATUS_USAGE;
	} else {
		status = run(&sub);
	}
	cli_free(&sub.cli);
	return status;
}

enum status
tail_main(int argc, char **argv)
{
	static const struct option options[] = {CLI_NAMED_OPTIONS, OPTIONS, {0}};
	struct sub sub = {
	    .cli = {.named = true},
	    .positions = true,
	    .mailbox = {.size = sizeof sub.mailbox,
		.bytes = MAILBOX_BYTES,
		.from = BUS_FROM_LAST,
		.from_value = TAIL_LAST},
	};
	enum status status;

	if (cli_parse(&sub.cli, argc, argv, options, tail_help, take_option, &sub, &status))
		status = cli_bus_is_there(&sub.cli) ? run(&sub) : STATUS_FAILED;
	cli_free(&sub.cli);
	return status;
}
