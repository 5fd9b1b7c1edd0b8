/* libbus log: looks into the log of a bus with a name. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: libbus log tail BUS [FILTER]... [OPTION]...\n"
    "       libbus log stat BUS [--dir DIR] [--json]\n"
    "\n"
    "tail prints the last ten messages in the log of the bus and then each that comes: its\n"
    "position, when it was published, topic and value. libbus log tail --help says more.\n"
    "stat says how large the log is, how full, and which processes are on the bus; with --json as\n"
    "one object, sizes in KiB.\n"
    "\n"
    "Examples:\n"
    "  libbus log tail home\n"
    "  libbus log tail home 'room/#' --oldest --timeout 1\n"
    "  libbus log stat home\n"
    "\n"
    "Status: as libbus sub.\n";

/* --- stat ----------------------------------------------------------------------------------------------- */

struct log_stat {
	struct cli cli;
	bool json;
	struct bus_value path;
	uint64_t kib, messages, left, oldest;
	uint64_t values_kib, values_most_kib, names_kib, names_most_kib;
	unsigned segments, readers, readers_most, processes, processes_most;
	const char *members; /* the lines about them */
	const struct bus_value
	    *announced[CLI_MEMBERS]; /* what each says of itself; NULL: nothing */
};

static bool
take_option(void *arg, int option, const char *value)
{
	struct log_stat *stat = arg;

	(void)option, (void)value;
	stat->json = true;
	return true;
}

/* Reads what bus_describe() wrote, which stays borrowed. false: it uses other words. */
static bool
read_description(struct log_stat *stat, const char *text)
{
	char end[80];
	const char *name;
	int members = 0;

	snprintf(end, sizeof end, "/%s.log, ", stat->cli.bus);
	name = strstr(text, end);
	if (name == NULL || strncmp(text, "log ", 4) != 0)
		return false;
	stat->path = (struct bus_value){
	    .kind = BUS_KIND_TEXT,
	    .count = (uint32_t)(name + strlen(end) - strlen(", ") - (text + 4)),
	    .as.bytes = text + 4,
	};
	sscanf(name + strlen(end),
	    "%" SCNu64 " KiB in %u segments, epoch %*u messages: %" SCNu64 " so far; %" SCNu64
	    " are still there, from position %" SCNu64 " on values: %" SCNu64
	    " KiB of at most %" SCNu64 " KiB; names of topics: %" SCNu64 " KiB of at most %" SCNu64
	    " KiB processes: %u of at most %u, with %u readers of at most %u%n",
	    &stat->kib, &stat->segments, &stat->messages, &stat->left, &stat->oldest,
	    &stat->values_kib, &stat->values_most_kib, &stat->names_kib, &stat->names_most_kib,
	    &stat->processes, &stat->processes_most, &stat->readers, &stat->readers_most, &members);
	stat->members = name + strlen(end) + members;
	return members > 0;
}

static void
read_announcements(struct log_stat *stat, struct bus *bus)
{
	struct bus_mailbox *mbox = cli_members(bus);
	const struct bus_msg *msg;

	while (mbox != NULL && bus_recv(mbox, 0, &msg) > 0) {
		unsigned long member = strtoul(strrchr(msg->topic, '/') + 1, NULL, 10);

		if (member >= CLI_MEMBERS)
			continue;
		bus_value_free(stat->announced[member]);
		stat->announced[member] = NULL;
		if (msg->len > 0)
			bus_value_read(msg->type, msg->data, msg->len, &stat->announced[member]);
	}
	bus_mailbox_close(mbox);
}

/* Nil: it is not known. */
static const struct bus_value *
program_of(const struct log_stat *stat, unsigned member)
{
	static const struct bus_value nil = {.kind = BUS_KIND_NIL};
	const struct bus_value *map = member < CLI_MEMBERS ? stat->announced[member] : NULL;

	if (map == NULL || map->kind != BUS_KIND_MAP)
		return &nil;
	for (uint32_t i = 0; i < map->count; i++) {
		const struct bus_value *key = &map->as.items[2 * i];

		if (key->kind == BUS_KIND_TEXT && key->count == strlen("program") &&
		    memcmp(key->as.bytes, "program", key->count) == 0)
			return key + 1;
	}
	return &nil;
}

static void
print_member(const struct log_stat *stat, unsigned member, unsigned pid, bool is_this, bool is_dead)
{
	const struct bus_value *program = program_of(stat, member);

	if (stat->json) {
		printf("{\"member\":%u,\"pid\":%u,\"program\":", member, pid);
		print_json(program);
		printf(",\"this\":%s,\"dead\":%s}", is_this ? "true" : "false",
		    is_dead ? "true" : "false");
	} else {
		printf("  member %u: pid %u", member, pid);
		if (program->kind == BUS_KIND_TEXT) {
			fputs(", ", stdout);
			print_plain(program);
		}
		puts(is_this ? ", this one" : is_dead ? ", dead" : "");
	}
}

static void
print_members(const struct log_stat *stat)
{
	const char *line = stat->members;
	unsigned member, pid;
	int len;

	while (sscanf(line, " member %u: pid %u%n", &member, &pid, &len) == 2) {
		if (stat->json && line != stat->members)
			putchar(',');
		line += len;
		print_member(stat, member, pid, strncmp(line, ", this", 6) == 0,
		    strncmp(line, ", dead", 6) == 0);
		line += strcspn(line, "\n");
	}
}

static void
print_text(const struct log_stat *stat, uint64_t epoch)
{
	fputs("log ", stdout);
	print_plain(&stat->path);
	printf(", %" PRIu64 " KiB in %u segments, epoch %" PRIu64 "\n", stat->kib, stat->segments,
	    epoch);
	printf("messages: %" PRIu64 " so far; %" PRIu64 " are still there, from position %" PRIu64
	       " on\n",
	    stat->messages, stat->left, stat->oldest);
	printf("kept values: %" PRIu64 " KiB of at most %" PRIu64 " KiB\n", stat->values_kib,
	    stat->values_most_kib);
	printf("names of topics: %" PRIu64 " KiB of at most %" PRIu64 " KiB\n", stat->names_kib,
	    stat->names_most_kib);
	printf("readers: %u of at most %u\n", stat->readers, stat->readers_most);
	printf("processes: %u of at most %u\n", stat->processes, stat->processes_most);
	print_members(stat);
}

static void
print_object(const struct log_stat *stat, uint64_t epoch)
{
	printf("{\"bus\":\"%s\",\"log\":", stat->cli.bus);
	print_json(&stat->path);
	/* The epoch as text, as in the lines of libbus sub. */
	printf(",\"log_kib\":%" PRIu64 ",\"segments\":%u,\"epoch\":\"%" PRIu64 "\"", stat->kib,
	    stat->segments, epoch);
	printf(",\"messages\":%" PRIu64 ",\"messages_left\":%" PRIu64 ",\"oldest\":%" PRIu64,
	    stat->messages, stat->left, stat->oldest);
	printf(",\"values_kib\":%" PRIu64 ",\"values_most_kib\":%" PRIu64, stat->values_kib,
	    stat->values_most_kib);
	printf(",\"names_kib\":%" PRIu64 ",\"names_most_kib\":%" PRIu64, stat->names_kib,
	    stat->names_most_kib);
	printf(",\"readers\":%u,\"readers_most\":%u,\"processes_most\":%u,\"processes\":[",
	    stat->readers, stat->readers_most, stat->processes_most);
	print_members(stat);
	puts("]}");
}

static enum status
print_stat(struct log_stat *stat, struct bus *bus)
{
	int len = bus_describe(bus, NULL, 0);
	char *text = len >= 0 ? malloc((size_t)len + 1) : NULL;
	enum status status = STATUS_FAILED;

	if (text == NULL) {
		complain_of(stat->cli.bus, len < 0 ? len : BUS_E_NOMEM);
		return STATUS_FAILED;
	}
	/* What has come meanwhile is cut off. */
	bus_describe(bus, text, (size_t)len + 1);
	if (!read_description(stat, text)) {
		complain(
		    "the library is of another version than this command: update the older one");
	} else {
		read_announcements(stat, bus);
		(stat->json ? print_object : print_text)(stat, bus_epoch(bus));
		status = STATUS_OK;
	}
	for (unsigned i = 0; i < CLI_MEMBERS; i++)
		bus_value_free(stat->announced[i]);
	free(text);
	return status;
}

static enum status
stat_main(int argc, char **argv)
{
	static const struct option options[] = {
	    CLI_NAMED_OPTIONS,
	    {"json", no_argument, NULL, 'j'},
	    {0},
	};
	struct log_stat stat = {.cli = {.named = true}};
	enum status status;
	struct bus *bus;

	if (cli_parse(&stat.cli, argc, argv, options, help, take_option, &stat, &status)) {
		status = STATUS_FAILED;
		if (stat.cli.word_count > 0) {
			complain("give the name of one bus: libbus log stat BUS");
			status = STATUS_USAGE;
		} else if (cli_bus_is_there(&stat.cli)) {
			bus = cli_open_bus(&stat.cli);
			status = bus != NULL ? print_stat(&stat, bus) : STATUS_FAILED;
			bus_close(bus, 0);
		}
	}
	cli_free(&stat.cli);
	return status;
}

/* --- the command ---------------------------------------------------------------------------------------- */

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
