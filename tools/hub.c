/* libbus hub: connects other machines to a named bus, in the foreground. */
#define _GNU_SOURCE
#include "cli.h"
#include "hub.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "Usage: libbus hub BUS --listen URL [--lan] [OPTION]...\n"
    "\n"
    "Connects other machines to a bus, until Ctrl-C. Programs on those machines dial the address.\n"
    "Their messages reach all programs on BUS, here and on every connected machine.\n"
    "Retained values last as long as a program of this machine is on the bus.\n"
    "\n"
    "  BUS                     the name of the bus; every program of this user may open it\n"
    "  --dir DIR               the directory of its log (/dev/shm/libbus-UID)\n"
    "  --listen URL            accept connections at this address; may be given several times:\n"
    "                            tcp://127.0.0.1:7070  this machine only\n"
    "                            tcp://0.0.0.0:7070    this network, with --lan; not encrypted\n"
    "                            tls://0.0.0.0:7071    anywhere, encrypted; libbus cert first\n"
    "  --lan                   accept peers of this network, each with a user and a password. If the\n"
    "                          users file is empty, the hub adds a user and prints its password\n"
    "  --dial URL              connect to another hub; may be given several times\n"
    "  --users FILE            the users that may log in; libbus user add. With --lan or tls:// the\n"
    "                          default is $XDG_CONFIG_HOME/libbus/users or ~/.config/libbus/users\n"
    "  --acl FILE              the topics that each user may read and write\n"
    "  --user NAME             log in to other hubs as this user\n"
    "  --password-file FILE    its password; without it $LIBBUS_PASSWORD or the terminal\n"
    "  --cert FILE --key FILE  tls://: this machine's certificate and its key (libbus cert)\n"
    "  --ca FILE               tls://: the CA whose certificates are accepted\n"
    "  --psk FILE              tls://: pre-shared keys in place of certificates\n"
    "  --insecure-remote       any address, unencrypted: for networks protected by other means (VPN)\n"
    "  --help                  this text\n"
    "\n"
    "SIGHUP reloads users, ACL and certificates. libbus explain BUS --peers lists the connected peers,\n"
    "and the refused ones with reasons.\n"
    "\n"
    "Examples:\n"
    "  libbus hub home --lan --listen tcp://0.0.0.0:7070\n"
    "  libbus hub home --listen tls://0.0.0.0:7071 --acl /etc/libbus/home.acl\n"
    "\n"
    "Exit status: 0 ended by a signal; 1 failure; 2 wrong command line.\n"
    "Read on: docs/guide/two-machines.md, docs/security.md\n";

enum { LOOK_MS = 500 };

struct hub {
	struct cli cli;
	struct bus *bus;
	char users_file[HUB_PATH];
	struct bus_link_stats shown; /* totals of all links, as last printed */
	bool shows;                  /* a status line is on the terminal */
};

/* --- the status line ---------------------------------------------------------------------------------- */

static struct bus_link_stats
sum(const struct cli *cli)
{
	struct bus_link_stats all = {.size = sizeof all};

	for (size_t i = 0; i < cli->link_count; i++) {
		struct bus_link_stats one = {.size = sizeof one};

		if (bus_link_stats(cli->links[i].link, &one) < 0)
			continue;
		all.peers += one.peers;
		all.sent += one.sent;
		all.received += one.received;
		all.lost += one.lost + one.lost_by_peers;
		all.refused += one.ended[BUS_LINK_END_AUTH] + one.ended[BUS_LINK_END_TLS] +
			       one.ended[BUS_LINK_END_DENIED] + one.ended[BUS_LINK_END_NOT_LIBBUS];
	}
	return all;
}

/* On a terminal one line is rewritten. Elsewhere a new line follows when a peer joins, leaves or is refused. */
static void
show(struct hub *hub)
{
	const struct bus_link_stats now = sum(&hub->cli);
	const bool terminal = isatty(STDOUT_FILENO) != 0;

	if (!terminal && hub->shows && now.peers == hub->shown.peers &&
	    now.refused == hub->shown.refused)
		return;
	if (terminal && hub->shows && memcmp(&now, &hub->shown, sizeof now) == 0)
		return;
	printf("%s%s: %" PRIu32 " peers, %" PRIu64 " in, %" PRIu64 " out, %" PRIu64
	       " lost, %" PRIu64 " refused%s",
	    terminal ? "\r" : "", hub->cli.bus, now.peers, now.received, now.sent, now.lost,
	    now.refused, terminal ? "\033[K" : "\n");
	fflush(stdout);
	hub->shown = now;
	hub->shows = true;
}

/* --- begin and end ------------------------------------------------------------------------------------ */

static void
reload(struct hub *hub)
{
	bool ok = true;

	for (size_t i = 0; i < hub->cli.link_count; i++) {
		const struct cli_link *link = &hub->cli.links[i];
		int err = bus_link_reload(link->link);

		if (err < 0)
			complain_of(link->url, err);
		ok &= err == 0;
	}
	if (ok)
		complain("%s: users, ACL and certificates were read again", hub->cli.bus);
}

/* Runs until a signal other than SIGHUP. */
static enum status
run(struct hub *hub, int signals)
{
	struct pollfd poll_fd = {.fd = signals, .events = POLLIN};
	struct signalfd_siginfo info;

	while (true) {
		show(hub);
		if (poll(&poll_fd, 1, LOOK_MS) <= 0)
			continue;
		if (read(signals, &info, sizeof info) != sizeof info)
			return STATUS_FAILED;
		if (info.ssi_signo != SIGHUP)
			break;
		reload(hub);
	}
	if (isatty(STDOUT_FILENO))
		putchar('\n');
	return STATUS_OK;
}

static bool
asks_for_users(const struct cli *cli)
{
	bool listens = false, encrypts = false;

	for (size_t i = 0; i < cli->link_count; i++) {
		listens |= cli->links[i].listen;
		encrypts |= cli->links[i].listen && strncmp(cli->links[i].url, "tls:", 4) == 0;
	}
	return listens && (cli->link.allow_lan != 0 || encrypts);
}

static bool
check(struct hub *hub)
{
	struct cli *cli = &hub->cli;

	if (cli->word_count > 0) {
		complain(
		    "%s: unexpected argument: libbus hub takes one bus and options (libbus hub --help)",
		    cli->words[0]);
		return false;
	}
	if (cli->link_count == 0) {
		complain(
		    "no address: add --listen URL, for example --lan --listen tcp://0.0.0.0:7070");
		return false;
	}
	if (cli->link.users_file == NULL && asks_for_users(cli)) {
		if (!hub_default_users(hub->users_file))
			return false;
		cli->link.users_file = hub->users_file;
	}
	cli->link.relays = 1;
	return true;
}

static bool
no_own_option(void *arg, int option, const char *value)
{
	(void)arg, (void)option, (void)value;
	return false;
}

enum status
hub_main(int argc, char **argv)
{
	/* clang-format off */
	static const struct option options[] = {
	    CLI_LINK_OPTIONS,
	    CLI_NAMED_OPTIONS,
	    {NULL, 0, NULL, 0},
	};
	/* clang-format on */
	struct hub hub = {.cli.named = true};
	enum status status;
	char *password = NULL;
	int signals = -1;

	if (!cli_parse(&hub.cli, argc, argv, options, help, no_own_option, NULL, &status))
		goto free_cli;
	status = STATUS_USAGE;
	if (!check(&hub))
		goto free_cli;
	status = STATUS_FAILED;
	signals = cli_signals();
	if (signals < 0)
		goto free_cli;
	if (hub.cli.link.users_file != NULL && !hub_first_user(hub.cli.link.users_file, &password))
		goto free_cli;
	hub.bus = cli_open_bus(&hub.cli);
	if (hub.bus == NULL)
		goto free_cli;
	if (cli_open_links(&hub.cli, hub.bus)) {
		for (size_t i = 0; i < hub.cli.link_count; i++)
			if (hub.cli.links[i].listen)
				hub_print_lines(&hub.cli.links[i], &hub.cli.link, password);
		status = run(&hub, signals);
	}

free_cli:
	if (password != NULL)
		explicit_bzero(password, strlen(password));
	free(password);
	cli_free(&hub.cli);
	if (hub.bus != NULL)
		bus_close(hub.bus, 2000);
	if (signals >= 0)
		close(signals);
	return status;
}
