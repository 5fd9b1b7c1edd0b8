/* Any bytes in place of the peer's messages in SCRAM, and as lines of a users file. Nobody knows the password here, so an exchange that
 * succeeds is a fault. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/part.h"
#include "access/scram.h"
#include "access/users_line.h"

static const uint8_t own_random[BUS__SCRAM_RANDOM] = "the same bytes each time";

/* A user whose keys are made of no password. */
static const struct bus__users *
users_of_nobody(void)
{
	static struct bus__users *users;
	struct bus__user user = {.name = "pico",
	    .salting = {.iterations = BUS__ITERATIONS_LEAST, .salt_len = 4, .salt = "salt"},
	    .stored_key = "this is no digest",
	    .server_key = "nor is this"};
	char line[BUS__USER_LINE], path[64];
	size_t len;
	int fd;

	if (users != NULL)
		return users;
	len = bus__user_line_write(&user, line);
	fd = memfd_create("users", MFD_CLOEXEC);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (fd < 0 || fchmod(fd, 0600) < 0 || write(fd, line, len) != (ssize_t)len ||
	    bus__users_load(path, &users) < 0)
		abort();
	close(fd);
	return users;
}

/* A copy of exactly that size, so that reading one byte more is seen. */
static char *
copy_of(struct bus__part part)
{
	char *copy = malloc(part.len > 0 ? part.len : 1);

	if (part.len > 0)
		memcpy(copy, part.at, part.len);
	return copy;
}

static void
play_client(struct bus__part first, struct bus__part final)
{
	char out[BUS__SCRAM_MESSAGE], *in = copy_of(first);
	struct bus__scram_server server;
	int len = bus__scram_server_first_with(
	    &server, users_of_nobody(), in, first.len, own_random, out);

	free(in);
	if (len > BUS__SCRAM_MESSAGE || (len > 0) != (server.reason == BUS__SCRAM_OK))
		abort();
	in = copy_of(final);
	if (bus__scram_server_final(&server, in, final.len, out) >= 0)
		abort();
	free(in);
}

static void
play_server(struct bus__part challenge, struct bus__part verdict)
{
	static const struct bus__scram_keys keys;
	char out[BUS__SCRAM_MESSAGE], *in = copy_of(challenge);
	struct bus__scram_client client;
	int err;

	if (bus__scram_client_first_with(&client, "a,b=c", own_random, out) < 0)
		abort();
	err = bus__scram_client_challenge(&client, in, challenge.len);
	free(in);
	if (err == 0 && (client.salting.iterations < BUS__ITERATIONS_LEAST ||
			    client.salting.iterations > BUS__ITERATIONS_MOST ||
			    client.salting.salt_len == 0 || client.salting.salt_len > BUS__SALT))
		abort();
	if (err == 0 && bus__scram_client_final(&client, &keys, out) > BUS__SCRAM_MESSAGE)
		abort();
	in = copy_of(verdict);
	if (bus__scram_client_verify(&client, in, verdict.len) >= 0)
		abort();
	free(in);
}

/* What is read writes back as a line that reads as the same user. */
static void
read_line(struct bus__part part)
{
	char *in = copy_of(part), line[BUS__USER_LINE];
	struct bus__user user, again;
	const char *complaint;
	int err = bus__user_line_read(in, part.len, &user, &complaint);

	free(in);
	if (err < 0 && complaint == NULL)
		abort();
	if (err < 0 || user.salting.iterations < BUS__ITERATIONS_LEAST)
		return;
	if (bus__user_line_read(line, bus__user_line_write(&user, line) - 1, &again, &complaint) <
		0 ||
	    memcmp(&user, &again, sizeof user) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bus__part rest = {(const char *)data, size}, kind = bus__part_cut(&rest, '\n');
	struct bus__part first = bus__part_cut(&rest, '\n');

	if (bus__part_is(kind, "client"))
		play_client(first, rest);
	else if (bus__part_is(kind, "server"))
		play_server(first, rest);
	else
		read_line(kind);
	return 0;
}
