/* cli.h: shared by the commands of `libbus`: options, the bus and its links, error lines. */
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
enum status tail_main(int argc, char **argv); /* libbus log tail: sub with other defaults */

/* Prints one line on stderr, "libbus: …". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the library's error text, with the topic, filter or address before it unless the text begins with that. */
void complain_of(const char *what, int err);

/* complain_of() for a topic or a filter. Returns STATUS_USAGE for a malformed name, STATUS_FAILED for any other error. */
enum status cli_refuse(const char *name, int err);

/* Print a value on one line of stdout. print_plain() prints text without quotes, unless it contains characters that break
 * the line or control a terminal: such text is printed as JSON. */
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
	struct bus_link_config link; /* options of all links; config_of() selects those of one */
	const char *password_file;   /* NULL: not given */
	char *password;              /* cli_free() wipes it */
	int64_t connect_ms;          /* 0: not given */
	const char *bus; /* the name of the bus: the first word; NULL: a private bus with links */
	bool named;      /* needs a named bus, also when addresses are given */
	const char *dir; /* directory of the log; NULL: the default one */
	const char **words; /* the arguments that are not options, in order, without the name */
	size_t word_count;
};

/* Long options of links. Those of a single command begin at CLI_OWN. */
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

/* Shared entries for a command's option table. CLI_NAMED_OPTIONS alone: for commands that take a named bus only. */
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
	"  BUS                     the name of the bus; every program of this user may open it\n"  \
	"  --dir DIR               the directory of its log (/dev/shm/libbus-UID)\n"

#define CLI_OPTIONS_HELP                                                                                 \
	CLI_NAMED_OPTIONS_HELP                                                                           \
	"Instead of a name, addresses of programs with private buses:\n"                                 \
	"  --dial URL              connect to this address; may be given several times\n"                \
	"  --listen URL            accept connections at this address; may be given several times\n"     \
	"Other machines (all options: libbus hub --help):\n"                                             \
	"  --user NAME             log in as this user; the password comes from --password-file FILE,\n" \
	"                          $LIBBUS_PASSWORD or the terminal\n"                                   \
	"  --lan                   allow tcp:// addresses of this network; nothing is encrypted\n"       \
	"  --ca FILE               tls://: the CA that signed the other side's certificate\n"

/* Reads a command line into cli, which is zero except for .named. own() handles the options that CLI_OPTIONS lacks.
 * false: exit with *ret_status (STATUS_OK after --help). In both cases call cli_free(), after bus_close(). */
bool cli_parse(struct cli *cli, int argc, char **argv, const struct option *options,
    const char *help, bool (*own)(void *arg, int option, const char *value), void *arg,
    enum status *ret_status);
void cli_free(struct cli *cli);

/* Parses seconds, such as 5 or 0.5, into milliseconds. Complains if the text is not a positive number. */
bool cli_seconds(const char *option, const char *text, int64_t *ret_ms);

/* Returns whether a word is a valid name of a bus. */
bool cli_is_name(const char *word);

/* Opens the bus, named or private. NULL: it failed and complained. */
struct bus *cli_open_bus(const struct cli *cli);

/* Subscribes to the given filters, or to all topics if none is given. Complains on failure. */
enum status cli_subscribe(const struct cli *cli, struct bus_mailbox *mbox);

/* Takes an option about links. false: the option is not about links. */
bool cli_link_option(struct cli *cli, int option, const char *value);

/* Listens and dials. Prints the address of a listener that chose its port. Complains on failure. */
bool cli_open_links(struct cli *cli, struct bus *bus);

/* Closes all links and wipes the password. */
void cli_close_links(struct cli *cli);

/* Returns the first link without a peer, and the error of its last attempt. NULL: every link has a peer. */
const struct cli_link *cli_unconnected(const struct cli *cli, int *ret_reason);
void complain_unconnected(const struct cli_link *link, int reason, const char *so);

/* Returns whether a process is on the named bus, without opening it: opening creates a missing bus. Otherwise complains
 * and lists the buses in that directory. */
bool cli_bus_is_there(const struct cli *cli);

/* Writes the path of an open bus's log, symbolic links resolved. false: realpath() failed, see errno. */
enum { CLI_PATH_MOST = PATH_MAX + 80 };
bool cli_log_path(const struct cli *cli, char ret_path[CLI_PATH_MOST]);

/* Opens a mailbox for cli_joined() on a named bus. NULL: it failed. */
struct bus_mailbox *cli_members(struct bus *bus);

/* Counts the processes that were on the bus when the mailbox was opened, this one included. Later calls count those that
 * joined since the previous call. */
unsigned cli_joined(struct bus_mailbox *members);

/* Complains if no other process is on the named bus. */
void cli_note_alone(const struct cli *cli, struct bus *bus);

/* Returns a descriptor that becomes readable after SIGINT, SIGTERM or SIGHUP. A signal that was ignored when the command
 * started stays ignored. -1: it failed and complained. */
int cli_signals(void);

int64_t now_ms(void);

#endif
