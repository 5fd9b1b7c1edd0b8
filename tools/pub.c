/* libbus pub: publishes one value, or the lines of stdin. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "Usage: libbus pub BUS TOPIC [VALUE] [OPTION]...\n"
    "       libbus pub TOPIC [VALUE] --dial URL|--listen URL [OPTION]...\n"
    "\n"
    "Publishes VALUE on TOPIC. Without VALUE, or with -, stdin is the value. With --dial or\n"
    "--listen it first waits until every address is connected. Without --type, readers\n"
    "parse a value such as 21.5, true or {\"a\": 1} as JSON, and take any other as text.\n"
    "\n" CLI_OPTIONS_HELP
    "  --retain                keep the value as the topic's last one: late joiners get it first;\n"
    "                          an empty VALUE ('') deletes it\n"
    "  --lines                 publish each line of stdin, ended by LF or CRLF, as a message; skip\n"
    "                          blank lines\n"
    "  --blank-lines           with --lines: publish a blank line as an empty message\n"
    "  --type TYPE             the type of the value, which readers then need not guess:\n"
    "                          json, text, bytes, msgpack or untagged (the default)\n"
    "  --connect-timeout SECONDS\n"
    "                          give up if an address is not connected by then (5)\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  libbus pub home room/kitchen/temperature 21.5\n"
    "  libbus pub --dial ipc:///tmp/hello.sock room/kitchen/temperature 21.5\n"
    "  libbus pub --dial tcp://127.0.0.1:5555 --type text room/kitchen/name 007\n"
    "  tail -f log.txt | libbus pub --listen ipc:///tmp/log.sock --lines log\n"
    "\n"
    "Exit status: 0 published, also if no subscriber at the addresses matches, or if no other process\n"
    "is on the named bus (stderr says so then); 1 failure; 2 wrong command line.\n"
    "Read on: docs/tutorial.md, docs/payloads.md\n";

enum {
	CONNECT_MS = 5000,
	FLUSH_MS = 5000,
	UNFLUSHED_MAX = 128 * 1024,     /* a link holds 1 MiB before it drops the oldest */
	FRAME_MAX = 128,                /* a frame is smaller than this, plus topic and value */
	PAYLOAD_MAX = 16 * 1024 * 1024, /* bounds our memory; the bus's own limit is far lower */
};

struct pub {
	struct cli cli;
	struct bus *bus;
	struct bus_mailbox *members; /* NULL on a private bus */
	unsigned joined;             /* processes seen on the bus so far, this one included */
	struct bus_msg msg;
	bool lines, blank_lines;
	size_t unflushed;
	uint64_t published;
};

static bool
set_type(const char *name, int *ret_type)
{
	static const struct {
		const char *name;
		int type;
	} types[] = {
	    {"untagged", BUS_TYPE_UNTAGGED},
	    {"json", BUS_TYPE_JSON},
	    {"text", BUS_TYPE_TEXT},
	    {"bytes", BUS_TYPE_BYTES},
	    {"msgpack", BUS_TYPE_MSGPACK},
	};

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (strcmp(types[i].name, name) == 0) {
			*ret_type = types[i].type;
			return true;
		}
	}
	complain("--type %s: choose json, text, bytes, msgpack or untagged", name);
	return false;
}

static bool
take_option(void *arg, int option, const char *value)
{
	struct pub *pub = arg;

	switch (option) {
	case 'r':
		pub->msg.flags = BUS_MSG_RETAIN;
		return true;
	case 'L':
		pub->lines = true;
		return true;
	case 'B':
		pub->blank_lines = true;
		return true;
	default:
		return set_type(value, &pub->msg.type);
	}
}

/* Reads the value as a subscriber will: a mistake is reported here, not there. */
static bool
is_of_type(const struct pub *pub, const void *data, size_t len)
{
	const struct bus_value *value;
	int err;

	if (len == 0 && pub->msg.flags & BUS_MSG_RETAIN)
		return true; /* deletes the retained value */
	err = bus_value_read(pub->msg.type, data, len, &value);
	if (err < 0) {
		complain(
		    "%s: the value does not match --type: correct one of them", pub->msg.topic);
		return false;
	}
	bus_value_free(value);
	return true;
}

static bool
flush(struct pub *pub)
{
	int err = bus_flush(pub->bus, FLUSH_MS);

	pub->unflushed = 0;
	if (pub->members != NULL)
		pub->joined += cli_joined(pub->members);
	if (err < 0)
		complain_of(pub->msg.topic, err);
	return err == 0;
}

static bool
publish(struct pub *pub, const void *data, size_t len)
{
	int err;

	if (!is_of_type(pub, data, len))
		return false;
	pub->msg.data = data;
	pub->msg.len = len;
	err = bus_publish_msg(pub->bus, &pub->msg);
	if (err < 0) {
		complain_of(pub->msg.topic, err);
		return false;
	}
	pub->published++;
	pub->unflushed += len + strlen(pub->msg.topic) + FRAME_MAX;
	return pub->unflushed < UNFLUSHED_MAX || flush(pub);
}

static bool
publish_lines(struct pub *pub)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	bool ok = true;
	/* In msgpack and bytes a trailing CR belongs to the value. */
	bool text = pub->msg.type != BUS_TYPE_MSGPACK && pub->msg.type != BUS_TYPE_BYTES;

	while (ok && (len = getline(&line, &cap, stdin)) >= 0) {
		if (len > 0 && line[len - 1] == '\n' && --len > 0 && line[len - 1] == '\r' && text)
			len--;
		if (len > 0 || pub->blank_lines)
			ok = publish(pub, line, (size_t)len);
	}
	free(line);
	if (ferror(stdin))
		complain("stdin: %s", strerror(errno));
	return ok && !ferror(stdin);
}

static bool
publish_stdin(struct pub *pub)
{
	char *data = NULL, *grown;
	size_t len = 0, cap = 0;
	bool ok = false;

	do {
		cap = cap ? 2 * cap : 64 * 1024;
		if (cap > PAYLOAD_MAX) {
			complain("%s: %s", pub->msg.topic, bus_strerror(BUS_E_TOO_BIG));
			goto out;
		}
		grown = realloc(data, cap);
		if (grown == NULL) {
			complain("%s: %s", pub->msg.topic, bus_strerror(BUS_E_NOMEM));
			goto out;
		}
		data = grown;
		len += fread(data + len, 1, cap - len, stdin);
	} while (len == cap);
	if (ferror(stdin))
		complain("stdin: %s", strerror(errno));
	else
		ok = publish(pub, data, len);
out:
	free(data);
	return ok;
}

static bool
connect_links(struct pub *pub)
{
	int64_t deadline = now_ms() + (pub->cli.connect_ms ? pub->cli.connect_ms : CONNECT_MS);
	const struct cli_link *missing;
	int reason;

	if (!cli_open_links(&pub->cli, pub->bus))
		return false;
	while ((missing = cli_unconnected(&pub->cli, &reason))) {
		if (now_ms() >= deadline) {
			complain_unconnected(missing, reason, "gave up (--connect-timeout)");
			return false;
		}
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	return true;
}

/* Reports losses, as far as this side knows of them. */
static bool
report(struct pub *pub)
{
	uint64_t sent = 0, lost = 0, most = 0;
	const struct cli_link *gone;
	int reason;

	for (size_t i = 0; i < pub->cli.link_count; i++) {
		struct bus_link_stats stats = {.size = sizeof stats};

		bus_link_stats(pub->cli.links[i].link, &stats);
		sent += stats.sent;
		lost += stats.lost;
		if (stats.sent + stats.lost > most)
			most = stats.sent + stats.lost;
	}
	if (pub->joined == 1 && pub->published > 0)
		complain("no other process is on \"%s\", so nothing was delivered or kept: start a "
			 "subscriber first: libbus sub %s %s",
		    pub->cli.bus, pub->cli.bus, pub->msg.topic);
	if (pub->cli.bus != NULL)
		return true; /* it is in the log; this side cannot see which processes read it */
	gone = cli_unconnected(&pub->cli, &reason);
	if (gone != NULL && most < pub->published) {
		complain("%s: the connection ended: %llu of %llu messages were not sent; start the "
			 "other side and publish again",
		    gone->url, (unsigned long long)(pub->published - most),
		    (unsigned long long)pub->published);
		return false;
	}
	if (lost > 0)
		complain("%llu messages were lost on the link", (unsigned long long)lost);
	else if (sent == 0 && pub->published > 0)
		complain("%s: no subscriber there has a matching filter, so nothing was sent",
		    pub->msg.topic);
	return lost == 0;
}

static enum status
run(struct pub *pub, const char *value)
{
	struct bus_pub *probe;
	bool ok;
	int err = bus_pub_open(pub->bus, pub->msg.topic, NULL, &probe);

	/* Check the topic before waiting for a connection. */
	if (err < 0)
		return cli_refuse(pub->msg.topic, err);
	bus_pub_close(probe);
	if (!connect_links(pub))
		return STATUS_FAILED;
	if (pub->cli.bus != NULL)
		pub->members = cli_members(pub->bus);
	if (value == NULL && isatty(STDIN_FILENO))
		complain("reading the value from the terminal; end it with Ctrl-D");
	if (value)
		ok = publish(pub, value, strlen(value));
	else if (pub->lines)
		ok = publish_lines(pub);
	else
		ok = publish_stdin(pub);
	return flush(pub) && ok && report(pub) ? STATUS_OK : STATUS_FAILED;
}

enum status
pub_main(int argc, char **argv)
{
	static const struct option options[] = {
	    CLI_OPTIONS,
	    {"retain", no_argument, NULL, 'r'},
	    {"lines", no_argument, NULL, 'L'},
	    {"blank-lines", no_argument, NULL, 'B'},
	    {"type", required_argument, NULL, 'T'},
	    {0},
	};
	struct pub pub = {.msg = {.size = sizeof pub.msg}};
	const char *value = NULL;
	enum status status;

	if (!cli_parse(&pub.cli, argc, argv, options, help, take_option, &pub, &status))
		goto out;
	status = STATUS_USAGE;
	if (pub.cli.word_count < 1 || pub.cli.word_count > 2) {
		complain("give one topic and at most one value: libbus pub %sTOPIC [VALUE]; "
			 "quote a value with spaces",
		    pub.cli.bus != NULL ? "BUS " : "");
		goto out;
	}
	pub.msg.topic = pub.cli.words[0];
	if (pub.cli.word_count == 2 && strcmp(pub.cli.words[1], "-") != 0)
		value = pub.cli.words[1];
	if (value && pub.lines) {
		complain("--lines reads stdin: leave out the value");
		goto out;
	}
	if (pub.blank_lines && !pub.lines) {
		complain("--blank-lines needs --lines: give both");
		goto out;
	}

	status = STATUS_FAILED;
	pub.bus = cli_open_bus(&pub.cli);
	if (pub.bus == NULL)
		goto out;
	status = run(&pub, value);
	bus_mailbox_close(pub.members);
	bus_close(pub.bus, 1000);
out:
	cli_free(&pub.cli);
	return status;
}
