/* cli.h: what the commands of `libbus` share: their options, their bus and its links, their way to complain. */
#ifndef LIBBUS_CLI_H
#define LIBBUS_CLI_H

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/libbus.h>

enum status { STATUS_OK, STATUS_FAILED, STATUS_USAGE, STATUS_TIMED_OUT };

enum status pub_main(int argc, char **argv);
enum status sub_main(int argc, char **argv);
enum status top_main(int argc, char **argv);
enum status log_main(int argc, char **argv);
enum status cert_main(int argc, char **argv);
enum status explain_main(int argc, char **argv);
enum status hub_main(int argc, char **argv);
enum status user_main(int argc, char **argv);
enum status tail_main(int argc, char **argv); /* of libbus log; sub with other defaults */

/* Prints one line on stderr, "libbus: …". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for an answer of the library about a topic, a filter or an address. */
void complain_of(const char *what, int err);

/* Complains of a topic or a filter, and answers how to end: USAGE if it is not one. */
enum status cli_refuse(const char *name, int err);

/* Print a value on one line of stdout: as JSON, or as people read it. Text is bare then, unless it would break the line
 * or play tricks on a terminal: then JSON says it otherwise. */
int print_json(const struct bus_value *value);
int print_plain(const struct bus_value *value);

struct cli_link {
	const char *url;
	bool listen;
	struct bus_link *link;
};

struct cli {
	struct cli_link *links;
	size_t link_count;
	struct bus_link_config link; /* options of all links; config_of() picks those of one */
	const char *password_file;   /* NULL: not given */
	char *password;              /* cli_free() wipes it */
	int64_t connect_ms;          /* 0: not given */
	const char *
	    bus; /* the name of the bus, the first word where no link is given; NULL: links make it */
	bool named;         /* needs a named bus, also when addresses are given */
	const char *dir;    /* where its log lies; NULL: where it does by default */
	const char **words; /* what is not an option, in order, without that name */
	size_t word_count;
};

/* Options of links that have no letter. A command's own begin at CLI_OWN. */
enum {
	CLI_USER = 0x100,
	CLI_PASSWORD_FILE,
	CLI_USERS,
	CLI_ACL,
	CLI_LAN,
	CLI_INSECURE_REMOTE,
	CLI_CA,
	CLI_CERT,
	CLI_KEY,
	CLI_PSK,
	CLI_OWN
};

/* What every command understands, for its own table of options; NAMED: those for buses with a name alone. */
/* clang-format off */
#define CLI_NAMED_OPTIONS                                                                          \
	{"dir", required_argument, NULL, 'D'},                                                     \
	{"help", no_argument, NULL, 'h'}
#define CLI_LINK_OPTIONS                                                                           \
	{"listen", required_argument, NULL, 'l'},                                                  \
	{"dial", required_argument, NULL, 'd'},                                                    \
	{"user", required_argument, NULL, CLI_USER},                                               \
	{"password-file", required_argument, NULL, CLI_PASSWORD_FILE},                             \
	{"users", required_argument, NULL, CLI_USERS},                                             \
	{"acl", required_argument, NULL, CLI_ACL},                                                 \
	{"lan", no_argument, NULL, CLI_LAN},                                                       \
	{"insecure-remote", no_argument, NULL, CLI_INSECURE_REMOTE},                               \
	{"ca", required_argument, NULL, CLI_CA},                                                   \
	{"cert", required_argument, NULL, CLI_CERT},                                               \
	{"key", required_argument, NULL, CLI_KEY},                                                 \
	{"psk", required_argument, NULL, CLI_PSK}
#define CLI_OPTIONS                                                                                \
	CLI_LINK_OPTIONS,                                                                          \
	{"connect-timeout", required_argument, NULL, 't'},                                         \
	CLI_NAMED_OPTIONS
/* clang-format on */

#define CLI_NAMED_OPTIONS_HELP                                                                     \
	"  BUS                     its name: all programs of this user that open it are on it\n"   \
	"  --dir DIR               where its log lies (/dev/shm/libbus-UID)\n"

#define CLI_OPTIONS_HELP                                                                                 \
	CLI_NAMED_OPTIONS_HELP                                                                           \
	"Or, instead of a name, addresses of programs that have private buses:\n"                        \
	"  --dial URL              connect there; may be given several times\n"                          \
	"  --listen URL            let others connect here; may be given several times\n"                \
	"For other machines (all options: libbus hub --help):\n"                                         \
	"  --user NAME             log in as this user; the password comes from --password-file FILE,\n" \
	"                          $LIBBUS_PASSWORD or the terminal\n"                                   \
	"  --lan                   allow tcp:// addresses of this network; nothing is encrypted\n"       \
	"  --ca FILE               tls://: the CA that signed the other side's certificate\n"

/* Reads a command line into cli, zero but for .named; own() gets the options that CLI_OPTIONS lacks. Ends with cli_free(), after
 * bus_close(), also when it answers false: then *ret_status is how to end (OK after --help). */
bool cli_parse(struct cli *cli, int argc, char **argv, const struct option *options,
    const char *help, bool (*own)(void *arg, int option, const char *value), void *arg,
    enum status *ret_status);
void cli_free(struct cli *cli);

/* Seconds as people write them, in milliseconds. */
bool cli_seconds(const char *option, const char *text, int64_t *ret_ms);

/* Whether a word may be the name of a bus. */
bool cli_is_name(const char *word);

/* Opens the bus, named or private. Complains if it cannot, and answers NULL. */
struct bus *cli_open_bus(const struct cli *cli);

/* Subscribes to the filters that are given; to all topics where none is. Complains if it cannot. */
enum status cli_subscribe(const struct cli *cli, struct bus_mailbox *mbox);

/* Takes an option about links. false: the option is not about links. */
bool cli_link_option(struct cli *cli, int option, const char *value);

/* Listens and dials; says which port it got where port 0 was asked for. Complains if one cannot. */
bool cli_open_links(struct cli *cli, struct bus *bus);

/* Closes them, and wipes the password. */
void cli_close_links(struct cli *cli);

/* The first link that has no peer yet, with the reason; NULL: all have. */
const struct cli_link *cli_unconnected(const struct cli *cli, int *ret_reason);
void complain_unconnected(const struct cli_link *link, int reason, const char *so);

/* Whether somebody is on the bus of that name, before it is opened, which would begin it. Complains otherwise, and lists
 * those that there are. */
bool cli_bus_is_there(const struct cli *cli);

/* Where the log of an open bus lies, without symbolic links. false, with errno: its directory is not to be found. */
enum { CLI_PATH_MOST = PATH_MAX + 80 };
bool cli_log_path(const struct cli *cli, char ret_path[CLI_PATH_MOST]);

/* A mailbox for cli_joined(), on a bus with a name; NULL if there cannot be one. */
struct bus_mailbox *cli_members(struct bus *bus);

/* How many processes were on the bus, this one included, when that was opened, and have joined it since; each counts once. */
unsigned cli_joined(struct bus_mailbox *members);

/* Says so if no other process is on the bus. */
void cli_note_alone(const struct cli *cli, struct bus *bus);

/* A descriptor for poll() that is readable after SIGINT, SIGTERM or SIGHUP, except those that were ignored when the
 * command started. Complains if there is none, and answers -1. */
int cli_signals(void);

int64_t now_ms(void);

#endif
