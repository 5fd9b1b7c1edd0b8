/* libbus: the command. Each subcommand is one file and one line of the table below. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: libbus COMMAND ...\n"
    "\n"
    "Publishes and prints messages, and shows the state of a bus.\n"
    "\n"
    "  libbus pub BUS TOPIC [VALUE]   publish a value\n"
    "  libbus sub BUS FILTER...       print messages as they arrive\n"
    "  libbus top BUS                 show the busiest topics\n"
    "  libbus explain BUS TOPIC       list the processes that get a topic, and the near misses\n"
    "  libbus hub BUS                 connect other machines to a bus\n"
    "  libbus user add NAME           add a user that may log in from another machine\n"
    "  libbus cert                    make certificates for tls:// links\n"
    "  libbus log tail BUS            print the newest messages in the log, with their positions\n"
    "  libbus log stat BUS            show how full the log is, and list the processes on the bus\n"
    "  libbus COMMAND --help          options, examples and the page to read on\n"
    "  libbus --version               print the version of the library\n"
    "\n"
    "Example, in two terminals:\n"
    "  libbus sub try 'room/#'\n"
    "  libbus pub try room/kitchen/temperature 21.5\n"
    "\n"
    "BUS is a name. All programs of this user on this machine that open this name share one bus.\n"
    "A program with a private bus has an address instead: give --dial URL or --listen URL, with\n"
    "ipc:///absolute/path (this machine, this user) or tcp://127.0.0.1:port.\n"
    "\n"
    "Exit status: 0 success; 1 failure; 2 wrong command line; 3 the --timeout ran out.\n"
    "Read on: docs/tutorial.md, docs/named-bus.md\n";

static const struct command {
	const char *name;
	char *title; /* argv[0] of the subcommand: getopt prefixes its messages with it */
	enum status (*run)(int argc, char **argv);
} commands[] = {
    {"cert", (char[]){"libbus cert"}, cert_main},
    {"explain", (char[]){"libbus explain"}, explain_main},
    {"hub", (char[]){"libbus hub"}, hub_main},
    {"log", (char[]){"libbus log"}, log_main},
    {"pub", (char[]){"libbus pub"}, pub_main},
    {"sub", (char[]){"libbus sub"}, sub_main},
    {"top", (char[]){"libbus top"}, top_main},
    {"user", (char[]){"libbus user"}, user_main},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static enum status
no_such_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (commands[i].name[0] == name[0]) {
			complain("no command %s; did you mean libbus %s?", name, commands[i].name);
			return STATUS_USAGE;
		}
	}
	complain("no command %s; libbus --help lists them", name);
	return STATUS_USAGE;
}

int
main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	/* A write to a closed pipe then fails with EPIPE, and the command ends without a message. */
	signal(SIGPIPE, SIG_IGN);

	if (argc < 2) {
		fputs(help, stderr);
		return STATUS_USAGE;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		fputs(help, stdout);
		return STATUS_OK;
	}
	if (strcmp(name, "--version") == 0) {
		printf("libbus %s\n", bus_version());
		return STATUS_OK;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			argv[1] = commands[i].title;
			return (int)commands[i].run(argc - 1, argv + 1);
		}
	}
	return (int)no_such_command(name);
}
