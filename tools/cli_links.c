/* cli_links.c: the links of a command, with their options for other machines. */
#define _GNU_SOURCE
#include "cli.h"
#include "password.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
cli_link_option(struct cli *cli, int option, const char *value)
{
	switch (option) {
	case 'l':
	case 'd':
		cli->links[cli->link_count++] =
		    (struct cli_link){.url = value, .listen = option == 'l'};
		return true;
	case CLI_USER:
		cli->link.user = value;
		return true;
	case CLI_PASSWORD_FILE:
		cli->password_file = value;
		return true;
	case CLI_USERS:
		cli->link.users_file = value;
		return true;
	case CLI_ACL:
		cli->link.acl_file = value;
		return true;
	case CLI_LAN:
		cli->link.allow_lan = 1;
		return true;
	case CLI_INSECURE_REMOTE:
		cli->link.allow_insecure_remote = 1;
		return true;
	case CLI_CA:
		cli->link.ca_file = value;
		return true;
	case CLI_CERT:
		cli->link.cert_file = value;
		return true;
	case CLI_KEY:
		cli->link.key_file = value;
		return true;
	case CLI_PSK:
		cli->link.psk_file = value;
		return true;
	default:
		return false;
	}
}

static bool
ask_terminal(const char *user, char text[PASSWORD_SIZE])
{
	char prompt[256];
	bool none;

	snprintf(prompt, sizeof prompt, "Password of %s: ", user);
	if (password_of_terminal(prompt, text, &none))
		return true;
	complain("no password for %s: give --password-file FILE or set LIBBUS_PASSWORD", user);
	return false;
}

/* Reads the password from the file, the environment or the terminal. The command line is visible to every user of the machine. */
static bool
find_password(struct cli *cli)
{
	const char *set = getenv("LIBBUS_PASSWORD");
	char text[PASSWORD_SIZE] = "";
	bool ok;

	if (cli->link.user == NULL) {
		if (cli->password_file == NULL)
			return true;
		complain("--password-file needs --user NAME");
		return false;
	}
	if (cli->password_file != NULL)
		ok = password_of_file(cli->password_file, text);
	else if (set != NULL)
		ok = snprintf(text, sizeof text, "%s", set) < (int)sizeof text;
	else
		ok = ask_terminal(cli->link.user, text);
	cli->password = ok ? strdup(text) : NULL;
	explicit_bzero(text, sizeof text);
	cli->link.password = cli->password;
	return cli->password != NULL;
}

void
cli_close_links(struct cli *cli)
{
	for (size_t i = 0; i < cli->link_count; i++)
		bus_link_close(cli->links[i].link);
	if (cli->password != NULL)
		explicit_bzero(cli->password, strlen(cli->password));
	free(cli->password);
}

static void
tell_port(const struct cli_link *link)
{
	char url[512];

	if (bus_link_url(link->link, url, sizeof url) > 0 && strcmp(url, link->url) != 0)
		complain("listening on %s", url);
}

/* A listener takes the users file and the ACL; a dialling link takes the user and the password. */
static struct bus_link_config
config_of(const struct cli *cli, const struct cli_link *link)
{
	struct bus_link_config cfg = cli->link;

	cfg.size = sizeof cfg;
	if (link->listen)
		cfg.user = cfg.password = NULL;
	else
		cfg.users_file = cfg.acl_file = NULL;
	return cfg;
}

bool
cli_open_links(struct cli *cli, struct bus *bus)
{
	if (!find_password(cli))
		return false;
	for (size_t i = 0; i < cli->link_count; i++) {
		struct cli_link *link = &cli->links[i];
		const struct bus_link_config cfg = config_of(cli, link);
		int err = link->listen ? bus_listen(bus, link->url, &cfg, &link->link)
				       : bus_dial(bus, link->url, &cfg, &link->link);

		if (err < 0) {
			complain_of(link->url, err);
			return false;
		}
		if (link->listen)
			tell_port(link);
	}
	return true;
}

const struct cli_link *
cli_unconnected(const struct cli *cli, int *ret_reason)
{
	for (size_t i = 0; i < cli->link_count; i++) {
		struct bus_link_stats stats = {.size = sizeof stats};

		if (bus_link_stats(cli->links[i].link, &stats) < 0 || stats.state != BUS_LINK_UP ||
		    stats.peers == 0) {
			*ret_reason = stats.last_error;
			return &cli->links[i];
		}
	}
	return NULL;
}

void
complain_unconnected(const struct cli_link *link, int reason, const char *so)
{
	const char *why = link->listen ? "no peer has connected yet" : "no answer yet";

	complain("%s: %s; %s", link->url, reason < 0 ? bus_strerror(reason) : why, so);
}
