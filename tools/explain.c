/* libbus explain: lists the processes that get a topic, with reasons, or the peers of links, with refusals. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "Usage: libbus explain BUS TOPIC [--dir DIR]\n"
    "       libbus explain BUS --peers [--dir DIR]\n"
    "\n"
    "Lists the processes on the bus that get a topic: pid, program, filter, the number of messages in the\n"
    "log that they have not handled yet, the number they lost, and their policy. Then it lists the filters\n"
    "that nearly match, each with its difference: a level too many or missing, a slash at an end, another\n"
    "case, another spelling. The topic's retained value is last. It asks no process, so it lists stopped\n"
    "ones too.\n"
    "With --peers it lists the peers that links connect, with the time they joined. Then it lists the last\n"
    "32 refusals of peers: the reason, the remedy, the count and the time. A refusal appears within a second.\n"
    "\n" CLI_NAMED_OPTIONS_HELP
    "  --peers                 list the peers of links; takes no topic\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  libbus explain home room/kitchen/temperature\n"
    "  libbus explain home room/door | grep ' gets it by '\n"
    "  libbus explain home --peers\n"
    "\n"
    "Exit status: 0 success, even if no process gets the topic; 1 failure, or no process is on the bus; 2 wrong\n"
    "command line.\n"
    "Read on: docs/named-bus.md, docs/security.md\n";

static bool
take_option(void *arg, int option, const char *value)
{
	(void)option, (void)value;
	*(bool *)arg = true;
	return true;
}

/* topic NULL: explains the peers. */
static int
explain(struct bus *bus, const char *topic, char *text, size_t cap)
{
	return topic != NULL ? bus_explain(bus, topic, text, cap)
			     : bus_explain_peers(bus, text, cap);
}

static enum status
print_text(struct bus *bus, const char *topic)
{
	int len = 0, room;
	char *text = NULL, *larger;

	/* The text may grow between two calls. */
	do {
		room = len + 1024;
		larger = realloc(text, (size_t)room);
		if (larger == NULL) {
			free(text);
			complain("out of memory");
			return STATUS_FAILED;
		}
		text = larger;
		len = explain(bus, topic, text, (size_t)room);
	} while (len >= room);
	if (len >= 0)
		fputs(text, stdout);
	free(text);
	return len < 0 ? cli_refuse(topic, len) : STATUS_OK;
}

static void
print_value(const struct bus_msg *msg)
{
	const struct bus_value *value;

	if (bus_value_read(msg->type, msg->data, msg->len, &value) < 0)
		return;
	fputs("last value: ", stdout);
	print_plain(value);
	putchar('\n');
	bus_value_free(value);
}

/* Runs after the text is made: the text would list this mailbox too. */
static void
print_kept(struct bus *bus, const char *topic)
{
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;

	if (bus_mailbox_open(bus, NULL, &mbox) < 0)
		return;
	if (bus_mailbox_subscribe(mbox, topic, NULL, NULL, NULL) == 0 &&
	    bus_recv(mbox, 0, &msg) > 0 && (msg->flags & BUS_MSG_KEPT) && msg->len > 0)
		print_value(msg);
	bus_mailbox_close(mbox);
}

enum status
explain_main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"peers", no_argument, NULL, 'p'},
	    CLI_NAMED_OPTIONS,
	    {0},
	};
	bool peers = false;
	struct cli cli = {.named = true};
	struct bus *bus = NULL;
	enum status status;

	if (!cli_parse(&cli, argc, argv, options, help, take_option, &peers, &status))
		goto free_cli;
	status = STATUS_USAGE;
	if (peers && cli.word_count != 0) {
		complain("a topic and --peers exclude each other: give libbus explain %s --peers",
		    cli.bus);
		goto free_cli;
	}
	if (!peers && cli.word_count != 1) {
		complain("give one topic: libbus explain %s room/kitchen", cli.bus);
		goto free_cli;
	}
	status = STATUS_FAILED;
	if (cli_bus_is_there(&cli))
		bus = cli_open_bus(&cli);
	if (bus == NULL)
		goto free_cli;
	status = print_text(bus, peers ? NULL : cli.words[0]);
	if (status == STATUS_OK && !peers)
		print_kept(bus, cli.words[0]);
	bus_close(bus, 0);
free_cli:
	cli_free(&cli);
	return status;
}
