/* libbus cert: a CA, certificates and keys for tls:// links. */
#define _GNU_SOURCE
#include "cli.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: libbus cert [NAME...] [--dir DIR] [--days N]\n"
    "       libbus cert client NAME [--dir DIR] [--days N]\n"
    "       libbus cert psk IDENTITY [--dir DIR]\n"
    "       libbus cert show [FILE...] [--dir DIR]\n"
    "\n"
    "Makes the files that tls:// links need, and prints how to copy them to the other machine.\n"
    "\n"
    "  libbus cert             makes server.pem, the certificate of this machine, and a CA if there\n"
    "                          is none. The certificate is valid for the NAMEs; without NAMEs for this\n"
    "                          machine's names, localhost and the addresses of its interfaces\n"
    "  client NAME             makes NAME.pem, for a client of a listener that demands certificates\n"
    "  psk IDENTITY            adds a pre-shared key to the file psk, in place of certificates\n"
    "  show                    prints names, dates and signers of certificates: the FILEs, or\n"
    "                          ca.pem and server.pem\n"
    "\n"
    "  --dir DIR               the directory of the files ($XDG_CONFIG_HOME/libbus, or\n"
    "                          ~/.config/libbus): tls:// links look there by default\n"
    "  --days N                days that a new certificate is valid (1825)\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  libbus cert\n"
    "  libbus cert pi.local 192.168.1.20\n"
    "  libbus cert client kitchen\n"
    "  libbus cert show\n"
    "\n"
    "Exit status: 0 success; 1 failure; 2 wrong command line.\n"
    "Read on: docs/security.md\n";

enum { NAMES_MOST = 64, ADDRESS = INET6_ADDRSTRLEN, HOST = 256, LINE = 1024 };

struct cert {
	const char *dir; /* NULL: the default one */
	uint32_t days;
	char **words;
	int word_count;
};

struct names {
	const char *list[NAMES_MOST];
	size_t count;
	char host[HOST], local[HOST + sizeof ".local"];
	char addresses[NAMES_MOST][ADDRESS];
};

static enum status
fail(void)
{
	complain("%s", bus_error_text());
	return STATUS_FAILED;
}

static const char *
path_of(const struct cert *cert, const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];

	return bus_cert_path(cert->dir, name, path, PATH_MAX) > 0 ? path : name;
}

/* --- this machine ---------------------------------------------------------------------------------------------------------------- */

static void
add(struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->list[i], name) == 0)
			return;
	if (names->count < NAMES_MOST)
		names->list[names->count++] = name;
}

/* Skips link-local addresses: they need an interface, which a certificate cannot name. */
static bool
write_address(const struct sockaddr *addr, char ret_text[ADDRESS])
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr;

	if (addr->sa_family == AF_INET)
		return inet_ntop(AF_INET,
			   &((const struct sockaddr_in *)(const void *)addr)->sin_addr, ret_text,
			   ADDRESS) != NULL;
	return addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) &&
	       inet_ntop(AF_INET6, &in6->sin6_addr, ret_text, ADDRESS) != NULL;
}

static void
add_addresses(struct names *names)
{
	struct ifaddrs *list;
	size_t count = 0;

	if (getifaddrs(&list) != 0)
		return;
	for (struct ifaddrs *at = list; at != NULL && count < NAMES_MOST; at = at->ifa_next)
		if (at->ifa_addr != NULL && (at->ifa_flags & IFF_UP) != 0 &&
		    write_address(at->ifa_addr, names->addresses[count]))
			add(names, names->addresses[count++]);
	freeifaddrs(list);
}

static void
find_names(struct names *names)
{
	if (gethostname(names->host, sizeof names->host - 1) == 0 && names->host[0] != '\0') {
		add(names, names->host);
		if (strchr(names->host, '.') == NULL) {
			snprintf(names->local, sizeof names->local, "%s.local", names->host);
			add(names, names->local);
		}
	}
	add(names, "localhost");
	add_addresses(names);
}

/* --- commands -------------------------------------------------------------------------------------------------------------------- */

static enum status
show_one(const char *path)
{
	char line[LINE];

	if (bus_cert_describe(path, line, sizeof line) < 0)
		return fail();
	printf("%s: %s\n", path, line);
	return STATUS_OK;
}

static enum status
make_server(const struct cert *cert)
{
	struct names names = {.count = 0};

	for (int i = 0; i < cert->word_count; i++)
		add(&names, cert->words[i]);
	if (names.count == 0)
		find_names(&names);
	if (bus_cert_server(cert->dir, names.list, names.count, cert->days) < 0)
		return fail();
	if (show_one(path_of(cert, "ca.pem")) != STATUS_OK ||
	    show_one(path_of(cert, "server.pem")) != STATUS_OK)
		return STATUS_FAILED;
	printf(
	    "\nThis machine can listen at tls:// addresses now. Copy the CA to each machine that dials it,\n"
	    "as ~/.config/libbus/ca.pem:\n"
	    "  ssh OTHER mkdir -p .config/libbus && scp %s OTHER:.config/libbus/\n"
	    "Keep ca-key.pem here: a machine that has it can pretend to be any other machine.\n",
	    path_of(cert, "ca.pem"));
	return STATUS_OK;
}

static enum status
make_client(const struct cert *cert)
{
	char file[80], key[80];
	const char *name = cert->words[1];

	if (bus_cert_client(cert->dir, name, cert->days) < 0)
		return fail();
	snprintf(file, sizeof file, "%s.pem", name);
	snprintf(key, sizeof key, "%s-key.pem", name);
	if (show_one(path_of(cert, file)) != STATUS_OK)
		return STATUS_FAILED;
	printf(
	    "\nCopy both files and the CA to the machine of %s, and give the files when it dials:\n"
	    "  scp %s %s %s OTHER:.config/libbus/\n"
	    "  cert_file %s, key_file %s\n"
	    "A listener demands client certificates if it is given a ca_file.\n",
	    name, path_of(cert, file), path_of(cert, key), path_of(cert, "ca.pem"), file, key);
	return STATUS_OK;
}

static enum status
make_psk(const struct cert *cert)
{
	char line[LINE];

	if (bus_cert_psk(cert->dir, cert->words[1], line, sizeof line) < 0)
		return fail();
	printf(
	    "%s has a key for %s now. Put the line below into a file on the other machine, readable\n"
	    "by its user alone (chmod 600). Give that file as psk_file there, and the file above as psk_file here:\n"
	    "%s\n",
	    path_of(cert, "psk"), cert->words[1], line);
	return STATUS_OK;
}

static enum status
show(const struct cert *cert)
{
	enum status status = STATUS_OK;

	for (int i = 1; i < cert->word_count; i++)
		if (show_one(cert->words[i]) != STATUS_OK)
			status = STATUS_FAILED;
	if (cert->word_count > 1)
		return status;
	if (show_one(path_of(cert, "ca.pem")) != STATUS_OK)
		return STATUS_FAILED;
	return show_one(path_of(cert, "server.pem"));
}

/* words: the exact number of words, with the command's own; 0: any number. */
static const struct {
	const char *name;
	int words;
	enum status (*run)(const struct cert *cert);
} commands[] = {{"client", 2, make_client}, {"psk", 2, make_psk}, {"show", 0, show}};

static enum status
run(const struct cert *cert)
{
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		if (cert->word_count == 0 || strcmp(cert->words[0], commands[i].name) != 0)
			continue;
		if (commands[i].words == 0 || commands[i].words == cert->word_count)
			return commands[i].run(cert);
		complain("libbus cert %s takes one name (libbus cert --help)", commands[i].name);
		return STATUS_USAGE;
	}
	return make_server(cert);
}

enum status
cert_main(int argc, char **argv)
{
	static const struct option options[] = {{"dir", required_argument, NULL, 'D'},
	    {"days", required_argument, NULL, 'n'}, {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0}};
	struct cert cert = {.dir = NULL};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		char *end;

		switch (option) {
		case 'D':
			cert.dir = optarg;
			break;
		case 'n':
			cert.days = (uint32_t)strtoul(optarg, &end, 10);
			if (cert.days == 0 || *end != '\0') {
				complain("--days %s: give a number of days, at least 1", optarg);
				return STATUS_USAGE;
			}
			break;
		case 'h':
			fputs(help, stdout);
			return STATUS_OK;
		default:
			return STATUS_USAGE;
		}
	}
	cert.words = argv + optind;
	cert.word_count = argc - optind;
	return run(&cert);
}
