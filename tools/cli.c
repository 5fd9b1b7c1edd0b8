#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

void
complain(const char *format, ...)
{
	va_list args;

	fputs("libbus: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

#define SHOWN 40 /* an error text shows at most this many bytes of a name */

void
complain_of(const char *what, int err)
{
	const char *text = err < 0 ? bus_error_text() : strerror(errno);
	size_t shown = strnlen(what, SHOWN);

	/* Most error texts already begin with the name. */
	if (strncmp(text, what, shown) == 0)
		complain("%s", text);
	else
		complain("%s: %s", what, text);
}

enum status
cli_refuse(const char *name, int err)
{
	complain_of(name[0] != '\0' ? name : "''", err);
	switch (err) {
	case BUS_E_TOPIC_EMPTY:
	case BUS_E_TOPIC_LONG:
	case BUS_E_TOPIC_BYTES:
	case BUS_E_TOPIC_WILDCARD:
	case BUS_E_TOPIC_RESERVED:
	case BUS_E_FILTER:
		return STATUS_USAGE;
	default:
		return STATUS_FAILED;
	}
}

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
cli_signals(void)
{
	static const int endings[] = {SIGINT, SIGTERM, SIGHUP};
	sigset_t ends;
	int fd;

	sigemptyset(&ends);
	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		struct sigaction before;

		/* A signalfd also reads ignored signals. nohup, and & in a script, ignore some of them. */
		if (sigaction(endings[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaddset(&ends, endings[i]);
	}
	sigprocmask(SIG_BLOCK, &ends, NULL);
	fd = signalfd(-1, &ends, SFD_CLOEXEC);
	if (fd < 0)
		complain("signalfd: %s", strerror(errno));
	return fd;
}

bool
cli_seconds(const char *option, const char *text, int64_t *ret_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !(seconds > 0 && seconds <= 1e6)) {
		complain("--%s %s: give seconds above 0, like 5 or 0.5", option, text);
		return false;
	}
	*ret_ms = (int64_t)(seconds * 1000) + 1;
	return true;
}

/* A word like -5 is a value, not an option. */
static bool
is_negative_number(const char *word)
{
	char *end;

	if (word[0] != '-' || word[1] == '\0')
		return false;
	strtod(word, &end);
	return *end == '\0';
}

bool
cli_is_name(const char *word)
{
	size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	return word[len] == '\0' && len > 0 && len <= 64;
}

bool
cli_parse(struct cli *cli, int argc, char **argv, const struct option *options, const char *help,
    bool (*own)(void *arg, int option, const char *value), void *arg, enum status *ret_status)
{
	*ret_status = STATUS_FAILED;
	cli->links = calloc((size_t)argc, sizeof *cli->links);
	cli->words = calloc((size_t)argc, sizeof *cli->words);
	if (cli->links == NULL || cli->words == NULL) {
		complain("out of memory");
		return false;
	}
	*ret_status = STATUS_USAGE;
	while (optind < argc) {
		int c;

		if (is_negative_number(argv[optind])) {
			cli->words[cli->word_count++] = argv[optind++];
			continue;
		}
		c = getopt_long(argc, argv, "-h", options, NULL);
		if (c == -1)
			break;
		switch (c) {
		case 1:
			cli->words[cli->word_count++] = optarg;
			break;
		case 't':
			if (!cli_seconds("connect-timeout", optarg, &cli->connect_ms))
				return false;
			break;
		case 'D':
			cli->dir = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			*ret_status = STATUS_OK;
			return false;
		case '?':
			complain("%s --help lists the options", argv[0]);
			return false;
		default:
			if (!cli_link_option(cli, c, optarg) && !own(arg, c, optarg))
				return false;
		}
	}
	while (optind < argc)
		cli->words[cli->word_count++] = argv[optind++];
	if (cli->link_count > 0 && !cli->named)
		return true;
	if (cli->word_count == 0) {
		complain("the bus is missing: give its name, like home%s",
		    cli->named ? "" : ", or --dial URL, or --listen URL");
		return false;
	}
	if (!cli_is_name(cli->words[0])) {
		complain(
		    "%s is not the name of a bus: give the name first, 1 to 64 of a-z 0-9 . _ -%s",
		    cli->words[0], cli->named ? "" : ", or give --dial URL or --listen URL");
		return false;
	}
	cli->bus = cli->words[0];
	cli->word_count--;
	memmove(cli->words, cli->words + 1, cli->word_count * sizeof *cli->words);
	return true;
}

struct bus *
cli_open_bus(const struct cli *cli)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = cli->dir};
	struct bus *bus;
	int err = bus_open(cli->bus, &cfg, &bus);

	if (err == 0)
		return bus;
	complain_of(cli->bus != NULL ? cli->bus : "bus", err);
	return NULL;
}

enum status
cli_subscribe(const struct cli *cli, struct bus_mailbox *mbox)
{
	size_t i = 0;

	do {
		const char *filter = cli->word_count > 0 ? cli->words[i] : "#";
		int err = bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL);

		if (err < 0)
			return cli_refuse(filter, err);
	} while (++i < cli->word_count);
	return STATUS_OK;
}

void
cli_free(struct cli *cli)
{
	cli_close_links(cli);
	free(cli->links);
	free(cli->words);
}
