/* Finds the buses in a directory and the processes on a bus. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	MEMBER_BYTE = 16, /* each process on a bus locks one byte of NAME.lock, from here on */
	PATH_MOST = 4096,
	OWN_DIR_MOST = 64,
};

/* --- buses, found without joining one, by the files and locks of docs/internals/log-format.md -------------------- */

static const char suffix[] = ".lock";

/* Also true if the lock cannot be read: bus_open() reports the reason. */
static bool
somebody_is_on(const char *dir, const char *name)
{
	struct flock range = {.l_type = F_WRLCK,
	    .l_whence = SEEK_SET,
	    .l_start = MEMBER_BYTE,
	    .l_len = BUS_LIMIT_MEMBERS};
	char path[PATH_MOST];
	bool locked;
	int fd;

	if (snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix) >= (int)sizeof path)
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT && errno != ENOTDIR;
	locked = fcntl(fd, F_GETLK, &range) < 0 || range.l_type != F_UNLCK;
	close(fd);
	return locked;
}

static int
is_lock(const struct dirent *entry)
{
	const char *end = strrchr(entry->d_name, '.');

	return end != NULL && strcmp(end, suffix) == 0;
}

/* Prints the names of the buses in dir, one per line. */
static void
list_buses(const char *dir)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, is_lock, alphasort);
	int listed = 0;

	for (int i = 0; i < count; i++) {
		char *name = entries[i]->d_name;

		*strrchr(name, '.') = '\0';
		if (cli_is_name(name) && somebody_is_on(dir, name)) {
			if (listed++ == 0)
				complain("the buses there are:");
			fprintf(stderr, "  %s\n", name);
		}
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	if (listed == 0)
		complain("no bus is there: start its program first");
}

/* Returns the directory of the log: --dir, or the default one, written into own. */
static const char *
dir_of(const struct cli *cli, char own[OWN_DIR_MOST])
{
	snprintf(own, OWN_DIR_MOST, "/dev/shm/libbus-%u", (unsigned)geteuid());
	return cli->dir != NULL ? cli->dir : own;
}

bool
cli_bus_is_there(const struct cli *cli)
{
	char own[OWN_DIR_MOST];
	const char *dir = dir_of(cli, own);

	if (somebody_is_on(dir, cli->bus))
		return true;
	complain("no such bus: %s in %s", cli->bus, dir);
	list_buses(dir);
	return false;
}

bool
cli_log_path(const struct cli *cli, char ret_path[CLI_PATH_MOST])
{
	char own[OWN_DIR_MOST], dir[PATH_MAX];

	if (realpath(dir_of(cli, own), dir) == NULL)
		return false;
	snprintf(ret_path, CLI_PATH_MOST, "%s/%s.bus", dir, cli->bus);
	return true;
}

/* --- processes ---------------------------------------------------------------------------------------- */

struct bus_mailbox *
cli_members(struct bus *bus)
{
	struct bus_mailbox *members;

	if (bus_mailbox_open(bus, NULL, &members) < 0)
		return NULL;
	if (bus_mailbox_subscribe(members, "$bus/members/+", NULL, NULL, NULL) == 0)
		return members;
	bus_mailbox_close(members);
	return NULL;
}

unsigned
cli_joined(struct bus_mailbox *members)
{
	const struct bus_msg *msg;
	unsigned joined = 0;

	while (bus_recv(members, 0, &msg) > 0)
		joined += msg->len > 0;
	return joined;
}

void
cli_note_alone(const struct cli *cli, struct bus *bus)
{
	struct bus_mailbox *members = cli->bus != NULL ? cli_members(bus) : NULL;

	if (members != NULL && cli_joined(members) == 1)
		complain("no other process is on \"%s\" yet; waiting", cli->bus);
	bus_mailbox_close(members);
}
