/* libbus: the command. Each of its commands is one file and one line of this table. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: libbus COMMAND ...\n"
    "\n"
    "Speaks on a bus of another program, and listens to it.\n"
    "\n"
    "  libbus pub BUS TOPIC [VALUE]   publish a value\n"
    "  libbus sub BUS FILTER...       print what is published\n"
    "  libbus top BUS                 show which topics are busy\n"
    "  libbus explain BUS TOPIC       say who gets a topic, who does not, and why\n"
    "  libbus hub BUS                 connect other machines to a bus\n"
    "  libbus user add NAME           add a user that may log in from there\n"
    "  libbus cert                    make certificates for tls:// links\n"
    "  libbus log tail BUS            print the newest messages of its log, with positions\n"
    "  libbus log stat BUS            say how full its log is, and who is on it\n"
    "  libbus COMMAND --help          options and examples\n"
    "  libbus --version               the version of the library\n"
    "\n"
    "Try it, in two terminals:\n"
    "  libbus sub try 'room/#'\n"
    "  libbus pub try room/kitchen/temperature 21.5\n"
    "\n"
    "BUS is a name: all programs of this user on this machine that open it are on one bus. Programs\n"
    "with private buses are reached by --dial or --listen and an address instead of a name:\n"
    "ipc:///absolute/path (this machine, this user) or tcp://127.0.0.1:port.\n"
    "\n"
    "Status: 0 done; 1 a failure; 2 a wrong command line; 3 the time was up.\n";

static const struct command {
	const char *name;
	char *title; /* as argv[0], which getopt puts before its complaints */
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

	/* A reader that went away shows as an error of the write, and ends us without noise. */
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
