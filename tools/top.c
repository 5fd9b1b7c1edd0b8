/* libbus top: shows the busiest topics. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: libbus top BUS [FILTER]... [OPTION]...\n"
    "       libbus top [FILTER]... --dial URL|--listen URL [OPTION]...\n"
    "\n"
    "Shows the busiest topics once a second: messages and bytes per second, messages since the\n"
    "start of top, and the size of the last message. Without a FILTER it counts all topics.\n"
    "\n" CLI_OPTIONS_HELP "  --interval SECONDS      time between two tables (1)\n"
    "  --count N               end after N tables\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  libbus top home\n"
    "  libbus top home 'room/#' --interval 5 --count 1\n"
    "\n"
    "Exit status: 0 --count was reached, Ctrl-C, or the output was closed; 1 failure; 2 wrong\n"
    "command line.\n"
    "Read on: docs/named-bus.md\n";

enum {
	SCREEN_LINES = 20,
	TOPICS_MOST = 100000,
	BETWEEN_POLLS = 64, /* messages taken before the next look at signals */
};

struct row {
	uint64_t messages, bytes; /* in this interval */
	uint64_t all;
	size_t last;
	char topic[];
};

struct top {
	struct cli cli;
	int64_t interval_ms;
	long count;
	void *tree; /* of rows, by topic */
	struct row **rows;
	size_t row_count;
	uint64_t lost, others; /* messages of topics beyond TOPICS_MOST */
};

static bool
take_option(void *arg, int option, const char *value)
{
	struct top *top = arg;
	char *end;

	if (option == 'i')
		return cli_seconds("interval", value, &top->interval_ms);
	errno = 0;
	top->count = strtol(value, &end, 10);
	if (errno || end == value || *end != '\0' || top->count < 1) {
		complain("--count %s: give a whole number from 1 up", value);
		return false;
	}
	return true;
}

static int
by_topic(const void *left, const void *right)
{
	return strcmp(((const struct row *)left)->topic, ((const struct row *)right)->topic);
}

static int
by_rate(const void *left, const void *right)
{
	const struct row *l = *(struct row *const *)left, *r = *(struct row *const *)right;

	if (l->messages != r->messages)
		return l->messages < r->messages ? 1 : -1;
	return l->all != r->all ? (l->all < r->all ? 1 : -1) : strcmp(l->topic, r->topic);
}

/* Returns the row of a topic, new if need be. NULL: there are TOPICS_MOST rows, or no memory. */
static struct row *
row_of(struct top *top, const char *topic)
{
	size_t len = strlen(topic) + 1;
	struct row *row, **rows;
	void *found;

	if (top->row_count == TOPICS_MOST)
		return NULL;
	row = calloc(1, sizeof *row + len);
	if (row == NULL)
		return NULL;
	memcpy(row->topic, topic, len);
	found = tsearch(row, &top->tree, by_topic);
	if (found == NULL || *(struct row **)found != row) {
		free(row);
		return found != NULL ? *(struct row **)found : NULL;
	}
	rows = realloc(top->rows, (top->row_count + 1) * sizeof(struct row *));
	if (rows == NULL) {
		tdelete(row, &top->tree, by_topic);
		free(row);
		return NULL;
	}
	top->rows = rows;
	top->rows[top->row_count++] = row;
	return row;
}

static void
take(struct top *top, const struct bus_msg *msg)
{
	struct row *row = row_of(top, msg->topic);

	top->lost += msg->lost;
	if (msg->flags & BUS_MSG_KEPT)
		return;
	if (row == NULL) {
		top->others++;
		return;
	}
	row->messages++;
	row->all++;
	row->bytes += msg->len;
	row->last = msg->len;
}

static void
show(struct top *top, double seconds)
{
	uint64_t messages = 0, bytes = 0;

	for (size_t i = 0; i < top->row_count; i++) {
		messages += top->rows[i]->messages;
		bytes += top->rows[i]->bytes;
	}
	qsort(top->rows, top->row_count, sizeof(struct row *), by_rate);
	if (isatty(STDOUT_FILENO))
		fputs("\033[H\033[2J", stdout);
	printf("%zu topics, %.1f messages/s, %.0f bytes/s", top->row_count,
	    (double)messages / seconds, (double)bytes / seconds);
	if (top->lost > 0)
		printf(", %" PRIu64 " lost", top->lost);
	if (top->others > 0)
		printf(", %" PRIu64 " on further topics", top->others);
	printf("\n%12s %14s %12s %10s  topic\n", "messages/s", "bytes/s", "messages", "last bytes");
	for (size_t i = 0; i < top->row_count && i < SCREEN_LINES; i++) {
		struct row *row = top->rows[i];

		printf("%12.1f %14.0f %12" PRIu64 " %10zu  %s\n", (double)row->messages / seconds,
		    (double)row->bytes / seconds, row->all, row->last, row->topic);
	}
	for (size_t i = 0; i < top->row_count; i++)
		top->rows[i]->messages = top->rows[i]->bytes = 0;
	fflush(stdout);
}

static enum status
watch(struct top *top, struct bus_mailbox *mbox, int signals)
{
	enum { MAILBOX, SIGNALS };
	struct pollfd fds[] = {
	    [MAILBOX] = {.fd = bus_mailbox_fd(mbox), .events = POLLIN},
	    [SIGNALS] = {.fd = signals, .events = POLLIN},
	};
	unsigned seen = 0;

	if (fds[MAILBOX].fd < 0) {
		complain_of("mailbox", fds[MAILBOX].fd);
		return STATUS_FAILED;
	}
	for (long shown = 0; top->count == 0 || shown < top->count; shown++) {
		int64_t begun = now_ms(), left = top->interval_ms;

		for (; left > 0; left = begun + top->interval_ms - now_ms()) {
			const struct bus_msg *msg;
			int got = bus_recv(mbox, 0, &msg);

			if (got < 0) {
				complain_of("receiving", got);
				return STATUS_FAILED;
			}
			if (got > 0)
				take(top, msg);
			if (got > 0 && ++seen % BETWEEN_POLLS != 0)
				continue;
			if (poll(fds, 2, got > 0 ? 0 : (int)left) < 0 && errno != EINTR) {
				complain("poll: %s", strerror(errno));
				return STATUS_FAILED;
			}
			if (fds[SIGNALS].revents)
				return STATUS_OK;
		}
		show(top, (double)(now_ms() - begun) / 1000);
		if (ferror(stdout))
			return errno == EPIPE ? STATUS_OK : STATUS_FAILED;
	}
	return STATUS_OK;
}

enum status
top_main(int argc, char **argv)
{
	static const struct option options[] = {
	    CLI_OPTIONS,
	    {"interval", required_argument, NULL, 'i'},
	    {"count", required_argument, NULL, 'c'},
	    {0},
	};
	struct top top = {.interval_ms = 1000};
	struct bus_mailbox *mbox;
	struct bus *bus;
	enum status status;
	int signals, err;

	if (!cli_parse(&top.cli, argc, argv, options, help, take_option, &top, &status))
		goto free_cli;
	status = STATUS_FAILED;
	signals = cli_signals();
	if (signals < 0)
		goto free_cli;
	bus = cli_open_bus(&top.cli);
	if (bus == NULL)
		goto close_signals;
	err = bus_mailbox_open(bus, NULL, &mbox);
	if (err < 0) {
		complain_of("top", err);
		goto close_bus;
	}
	status = cli_subscribe(&top.cli, mbox);
	if (status == STATUS_OK && !cli_open_links(&top.cli, bus))
		status = STATUS_FAILED;
	if (status == STATUS_OK) {
		cli_note_alone(&top.cli, bus);
		status = watch(&top, mbox, signals);
	}
	bus_mailbox_close(mbox);
close_bus:
	bus_close(bus, 0);
close_signals:
	close(signals);
free_cli:
	for (size_t i = 0; i < top.row_count; i++) {
		tdelete(top.rows[i], &top.tree, by_topic);
		free(top.rows[i]);
	}
	free(top.rows);
	cli_free(&top.cli);
	return status;
}
