/* libbus log: shows the log of a named bus. */
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
    "tail prints the last ten messages in the log, then each new one: position, time of\n"
    "publication, topic and value. Its options: libbus log tail --help.\n"
    "stat prints how large and how full the log is, and the processes on the bus. With --json\n"
    "it prints one object, with sizes in bytes.\n"
    "\n"
    "Examples:\n"
    "  libbus log tail home\n"
    "  libbus log tail home 'room/#' --oldest --timeout 1\n"
    "  libbus log stat home\n"
    "\n"
    "Exit status: as libbus sub.\n"
    "Read on: docs/named-bus.md\n";

/* --- stat ----------------------------------------------------------------------------------------------- */

struct member {
	struct bus_member process;         /* pid 0: the number is free */
	const struct bus_value *announced; /* its value on $bus/members/N; NULL: none */
};

struct log_stat {
	struct cli cli;
	bool json;
	char path[CLI_PATH_MOST];
	struct bus_log_stats log;
	struct member members[BUS_LIMIT_MEMBERS];
};

static bool
take_option(void *arg, int option, const char *value)
{
	struct log_stat *stat = arg;

	(void)option, (void)value;
	stat->json = true;
	return true;
}

static void
read_members(struct log_stat *stat, struct bus *bus)
{
	for (uint32_t i = 0; i < BUS_LIMIT_MEMBERS; i++) {
		stat->members[i].process.size = sizeof stat->members[i].process;
		bus_member(bus, i, &stat->members[i].process);
	}
}

static void
read_announcements(struct log_stat *stat, struct bus *bus)
{
	struct bus_mailbox *mbox = cli_members(bus);
	const struct bus_msg *msg;

	while (mbox != NULL && bus_recv(mbox, 0, &msg) > 0) {
		unsigned long number = strtoul(strrchr(msg->topic, '/') + 1, NULL, 10);
		struct member *member;

		if (number >= BUS_LIMIT_MEMBERS)
			continue;
		member = &stat->members[number];
		bus_value_free(member->announced);
		member->announced = NULL;
		if (msg->len > 0)
			bus_value_read(msg->type, msg->data, msg->len, &member->announced);
	}
	bus_mailbox_close(mbox);
}

/* Returns the program's name; nil: unknown. */
static const struct bus_value *
program_of(const struct member *member)
{
	static const struct bus_value nil = {.kind = BUS_KIND_NIL};
	const struct bus_value *map = member->announced;

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
print_member(const struct log_stat *stat, unsigned number)
{
	const struct bus_member *process = &stat->members[number].process;
	const struct bus_value *program = program_of(&stat->members[number]);

	if (stat->json) {
		printf("{\"member\":%u,\"pid\":%u,\"program\":", number, process->pid);
		print_json(program);
		printf(",\"this\":%s,\"dead\":%s}", process->is_this ? "true" : "false",
		    process->is_alive ? "false" : "true");
	} else {
		printf("  member %u: pid %u", number, process->pid);
		if (program->kind == BUS_KIND_TEXT) {
			fputs(", ", stdout);
			print_plain(program);
		}
		puts(process->is_this ? ", this one" : process->is_alive ? "" : ", dead");
	}
}

static void
print_members(const struct log_stat *stat)
{
	bool first = true;

	for (unsigned i = 0; i < BUS_LIMIT_MEMBERS; i++) {
		if (stat->members[i].process.pid == 0)
			continue;
		if (stat->json && !first)
			putchar(',');
		first = false;
		print_member(stat, i);
	}
}

static struct bus_value
path_of(const struct log_stat *stat)
{
	return (struct bus_value){
	    .kind = BUS_KIND_TEXT,
	    .count = (uint32_t)strlen(stat->path),
	    .as.bytes = stat->path,
	};
}

/* In bytes below 10 KiB: a few small values would show as 0 KiB. */
static void
print_size(uint64_t bytes)
{
	if (bytes < 10 * 1024)
		printf("%" PRIu64 " bytes", bytes);
	else
		printf("%" PRIu64 " KiB", bytes / 1024);
}

static void
print_fill(const char *what, uint64_t bytes, uint64_t most)
{
	printf("%s: ", what);
	print_size(bytes);
	fputs(" of at most ", stdout);
	print_size(most);
	putchar('\n');
}

static void
print_text(const struct log_stat *stat, uint64_t epoch)
{
	const struct bus_log_stats *log = &stat->log;
	const struct bus_value path = path_of(stat);

	fputs("log ", stdout);
	print_plain(&path);
	fputs(", ", stdout);
	print_size(log->log_bytes);
	printf(" in %" PRIu32 " segments, epoch %" PRIu64 "\n", log->segments, epoch);
	printf("messages: %" PRIu64 " so far; %" PRIu64
	       " are still in the log, from position %" PRIu64 " on\n",
	    log->messages, log->messages_left, log->oldest);
	print_fill("kept values", log->values_bytes, log->values_most);
	printf("number of kept values: %" PRIu64 " of at most %" PRIu64 "\n", log->values_count,
	    log->values_count_most);
	printf("readers: %" PRIu32 " of at most %" PRIu32 "\n", log->readers, log->readers_most);
	printf(
	    "processes: %" PRIu32 " of at most %" PRIu32 "\n", log->processes, log->processes_most);
	print_members(stat);
}

static void
print_object(const struct log_stat *stat, uint64_t epoch)
{
	const struct bus_log_stats *log = &stat->log;
	const struct bus_value path = path_of(stat);

	printf("{\"bus\":\"%s\",\"log\":", stat->cli.bus);
	print_json(&path);
	/* The epoch is text, as libbus sub --json prints it. */
	printf(",\"log_bytes\":%" PRIu64 ",\"segments\":%" PRIu32 ",\"epoch\":\"%" PRIu64 "\"",
	    log->log_bytes, log->segments, epoch);
	printf(",\"messages\":%" PRIu64 ",\"messages_left\":%" PRIu64 ",\"oldest\":%" PRIu64,
	    log->messages, log->messages_left, log->oldest);
	printf(",\"values_bytes\":%" PRIu64 ",\"values_most\":%" PRIu64, log->values_bytes,
	    log->values_most);
	printf(",\"values_count\":%" PRIu64 ",\"values_count_most\":%" PRIu64, log->values_count,
	    log->values_count_most);
	printf(",\"readers\":%" PRIu32 ",\"readers_most\":%" PRIu32 ",\"processes_most\":%" PRIu32
	       ",\"processes\":[",
	    log->readers, log->readers_most, log->processes_most);
	print_members(stat);
	puts("]}");
}

static enum status
print_stat(struct log_stat *stat, struct bus *bus)
{
	int err = BUS_E_SYS;

	stat->log.size = sizeof stat->log;
	if (cli_log_path(&stat->cli, stat->path))
		err = bus_log_stats(bus, &stat->log);
	if (err < 0) {
		complain_of(stat->cli.bus, err);
		return STATUS_FAILED;
	}
	/* Before opening a mailbox: it counts as a reader and may remove a dead process. */
	read_members(stat, bus);
	read_announcements(stat, bus);
	(stat->json ? print_object : print_text)(stat, bus_epoch(bus));
	for (unsigned i = 0; i < BUS_LIMIT_MEMBERS; i++)
		bus_value_free(stat->members[i].announced);
	return STATUS_OK;
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
			complain("unexpected argument: give one bus: libbus log stat BUS");
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
