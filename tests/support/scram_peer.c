/* One side of SCRAM-SHA-512 over standard input and output, a message a line: for tests/python/test_scram.py.
 *   scram_peer client NAME PASSWORD
 *   scram_peer server USERS_FILE
 * The last line is "accepted", or "refused: " and the reason. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "access/scram.h"

/* A message of the peer, without the end of its line. */
static size_t
hear(char line[2 * BUS__SCRAM_MESSAGE])
{
	if (fgets(line, 2 * BUS__SCRAM_MESSAGE, stdin) == NULL)
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return strlen(line);
}

static void
say(const char *message, int len)
{
	printf("%.*s\n", len, message);
	fflush(stdout);
}

static int
judge(int err, enum bus__scram_reason reason)
{
	if (err < 0)
		printf("refused: %s\n", bus__scram_text(reason));
	else
		printf("accepted\n");
	return err < 0;
}

static int
keys_of(const char *password, const struct bus__salting *salting, struct bus__scram_keys *ret_keys)
{
	uint8_t salted[BUS__SHA512];
	int err = bus__pbkdf2_sha512(password, strlen(password), salting->salt, salting->salt_len,
	    salting->iterations, NULL, NULL, salted);

	return err < 0 ? err : bus__scram_keys(salted, ret_keys);
}

static int
run_client(const char *name, const char *password)
{
	struct bus__scram_client client;
	struct bus__scram_keys keys;
	char out[BUS__SCRAM_MESSAGE], in[2 * BUS__SCRAM_MESSAGE];
	int len = bus__scram_client_first(&client, name, out);

	if (len < 0)
		return judge(len, client.reason);
	say(out, len);
	len = bus__scram_client_challenge(&client, in, hear(in));
	if (len == 0)
		len = keys_of(password, &client.salting, &keys);
	if (len == 0)
		len = bus__scram_client_final(&client, &keys, out);
	if (len < 0)
		return judge(len, client.reason);
	say(out, len);
	len = bus__scram_client_verify(&client, in, hear(in));
	return judge(len, client.reason);
}

static int
run_server(const char *path)
{
	struct bus__users *users;
	struct bus__scram_server server;
	char out[BUS__SCRAM_MESSAGE], in[2 * BUS__SCRAM_MESSAGE];
	int len;

	if (bus__users_load(path, &users) < 0) {
		fprintf(stderr, "%s\n", bus_error_text());
		return 2;
	}
	len = bus__scram_server_first(&server, users, in, hear(in), out);
	if (len >= 0) {
		say(out, len);
		len = bus__scram_server_final(&server, in, hear(in), out);
	}
	if (len >= 0)
		say(out, len);
	len = judge(len, server.reason);
	bus__users_drop(users);
	return len;
}

int
main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "client") == 0)
		return run_client(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		return run_server(argv[2]);
	return 2;
}
