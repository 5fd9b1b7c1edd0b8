/* libbus log: looks into the log of a bus with a name. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: libbus log tail BUS [OPTION]...\n"
    "       libbus log stat BUS [--dir DIR]\n"
    "\n"
    "tail prints the last ten messages in the log of the bus and then each that comes: its\n"
    "position, when it was published, topic and value. It takes the options of libbus sub.\n"
    "stat says how large the log is, how full, and which processes are on the bus.\n"
    "\n"
    "Examples:\n"
    "  libbus log tail home\n"
    "  libbus log tail home --oldest --timeout 1\n"
    "  libbus log stat home\n"
    "\n"
    "Status: as libbus sub.\n";

/* libbus sub BUS '#' --last 10 --positions, and what else was asked for. */
static enum status
tail(int argc, char **argv)
{
	char *before[] = {argv[0], "#", "--last", "10", "--positions"};
	const int count = sizeof before / sizeof before[0];
	char **all = calloc((size_t)(argc + count), sizeof *all);
	enum status status;

	if (all == NULL) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	/* The name stays the first word. */
	all[0] = before[0];
	if (argc > 1)
		all[1] = argv[1];
	memcpy(all + (argc > 1 ? 2 : 1), before + 1, (size_t)(count - 1) * sizeof *all);
	if (argc > 2)
		memcpy(all + count + 1, argv + 2, (size_t)(argc - 2) * sizeof *all);
	status = sub_main(argc + count - 1, all);
	free(all);
	return status;
}

static bool
no_option(void *arg, int option, const char *value)
{
	(void)arg, (void)option, (void)value;
	return false;
}

static enum status
print_stat(struct bus *bus)
{
	int len = bus_describe(bus, NULL, 0);
	char *text = len >= 0 ? malloc((size_t)len + 1) : NULL;

	if (text == NULL) {
		complain_of("log", len < 0 ? len : BUS_E_NOMEM);
		return STATUS_FAILED;
	}
	/* What has come meanwhile is cut off. */
	bus_describe(bus, text, (size_t)len + 1);
	fputs(text, stdout);
	free(text);
	return STATUS_OK;
}

static enum status
stat_main(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS, {0}};
	struct cli cli = {0};
	enum status status;
	struct bus *bus;

	if (cli_parse(&cli, argc, argv, options, help, no_option, NULL, &status)) {
		status = STATUS_USAGE;
		if (cli.bus == NULL || cli.word_count > 0) {
			complain("give the name of one bus: libbus log stat BUS");
		} else {
			bus = cli_open_bus(&cli);
			status = bus != NULL ? print_stat(bus) : STATUS_FAILED;
			bus_close(bus, 0);
		}
	}
	cli_free(&cli);
	return status;
}

enum status
log_main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "tail") == 0) {
		argv[1] = (char[]){"libbus log tail"};
		return tail(argc - 1, argv + 1);
	}
	if (strcmp(what, "stat") == 0) {
		argv[1] = (char[]){"libbus log stat"};
		return stat_main(argc - 1, argv + 1);
	}
	if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
		fputs(help, stdout);
		return STATUS_OK;
	}
	complain("libbus log tail BUS, or libbus log stat BUS; --help says more");
	return STATUS_USAGE;
}
