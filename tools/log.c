/* libbus log: looks into the log of a bus with a name. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: libbus log tail BUS [FILTER]... [OPTION]...\n"
    "       libbus log stat BUS [--dir DIR]\n"
    "\n"
    "tail prints the last ten messages in the log of the bus and then each that comes: its\n"
    "position, when it was published, topic and value. libbus log tail --help says more.\n"
    "stat says how large the log is, how full, and which processes are on the bus.\n"
    "\n"
    "Examples:\n"
    "  libbus log tail home\n"
    "  libbus log tail home 'room/#' --oldest --timeout 1\n"
    "  libbus log stat home\n"
    "\n"
    "Status: as libbus sub.\n";

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
	static const struct option options[] = {CLI_NAMED_OPTIONS, {0}};
	struct cli cli = {.named = true};
	enum status status;
	struct bus *bus;

	if (cli_parse(&cli, argc, argv, options, help, no_option, NULL, &status)) {
		status = STATUS_FAILED;
		if (cli.word_count > 0) {
			complain("give the name of one bus: libbus log stat BUS");
			status = STATUS_USAGE;
		} else if (cli_bus_is_there(&cli)) {
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
		return tail_main(argc - 1, argv + 1);
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
