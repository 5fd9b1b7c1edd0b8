/* libbus user: edits the users file, which lists the users that may log in. */
#define _GNU_SOURCE
#include "cli.h"
#include "password.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: libbus user add NAME [--generate | --password-file FILE] [--clear-text] [--file FILE]\n"
    "       libbus user remove NAME [--file FILE]\n"
    "       libbus user list [--file FILE]\n"
    "       libbus user check NAME [--password-file FILE] [--file FILE]\n"
    "\n"
    "The users file lists the users that may log in to a listening address.\n"
    "\n"
    "  add      adds a user, or changes the password and flag of an existing one\n"
    "  remove   removes a user\n"
    "  list     prints the users, one per line, with their flags\n"
    "  check    checks a user's password\n"
    "\n"
    "  --file FILE             the users file ($XDG_CONFIG_HOME/libbus/users, or\n"
    "                          ~/.config/libbus/users); add creates a missing file\n"
    "  --generate              generate a password and print it, once\n"
    "  --password-file FILE    its first line is the password; - is standard input. Without it\n"
    "                          the terminal asks; if standard input is no terminal, it is read\n"
    "  --clear-text            let this user also log in through protocols that send the password\n"
    "                          without encryption (MQTT without TLS). Links never send it\n"
    "  --help                  this text\n"
    "\n"
    "The file holds no passwords. After a change, send SIGHUP to libbus hub; other programs call\n"
    "bus_link_reload(). A file of mosquitto_passwd (-H sha512-pbkdf2) works if its lines have at\n"
    "least 4,096 iterations (its default is 101). list marks the others as weak: add them again.\n"
    "\n"
    "Examples:\n"
    "  libbus user add pico --generate\n"
    "  libbus user add pico --file /etc/libbus/users\n"
    "  echo 'a long sentence' | libbus user add pico --password-file -\n"
    "  libbus user list\n"
    "\n"
    "Exit status: 0 success; 1 failure, no such user or a wrong password; 2 wrong command line.\n"
    "Read on: docs/security.md\n";

struct user {
	const char *name;
	const char *file; /* NULL: the default one */
	const char *password_file;
	bool generate;
	uint32_t flags;
};

/* The file's path for messages. */
static const char *
file_of(const struct user *user)
{
	static char path[PATH_MAX];

	if (user->file != NULL)
		return user->file;
	return bus_users_file(path, sizeof path) < 0 ? "users" : path;
}

static enum status
fail(const struct user *user, int err)
{
	complain_of(user->name != NULL ? user->name : file_of(user), err);
	return err == BUS_E_INVAL ? STATUS_USAGE : STATUS_FAILED;
}

/* --- passwords ---------------------------------------------------------------------------------------------- */

static bool
ask(const char *name, const char *again, char ret_text[PASSWORD_SIZE])
{
	char prompt[256];
	bool none;

	snprintf(prompt, sizeof prompt, "Password of %s%s: ", name, again);
	if (password_of_terminal(prompt, ret_text, &none))
		return true;
	complain(none ? "there is no terminal to ask on: give --password-file FILE"
		      : "no password given: nothing was changed");
	return false;
}

static bool
find_password(const struct user *user, bool twice, char ret_text[PASSWORD_SIZE])
{
	char again[PASSWORD_SIZE];
	bool same;

	if (user->generate)
		return password_make(ret_text);
	if (user->password_file != NULL)
		return password_of_file(user->password_file, ret_text);
	if (isatty(STDIN_FILENO) == 0)
		return password_of_file("-", ret_text);
	if (!ask(user->name, "", ret_text))
		return false;
	if (!twice)
		return true;
	same = ask(user->name, " again", again) && strcmp(ret_text, again) == 0;
	if (!same)
		complain("the two passwords differ: nothing was changed");
	explicit_bzero(again, sizeof again);
	return same;
}

/* --- verbs -------------------------------------------------------------------------------------------------- */

static enum status
add(const struct user *user)
{
	char password[PASSWORD_SIZE];
	enum status status = STATUS_FAILED;
	int err;

	if (find_password(user, true, password)) {
		err = bus_user_set(user->file, user->name, password, user->flags);
		status = err < 0 ? fail(user, err) : STATUS_OK;
		if (err >= 0)
			complain("%s: %s was %s%s", file_of(user), user->name,
			    err > 0 ? "changed" : "added",
			    user->generate ? "; its password is shown only once" : "");
		if (err >= 0 && user->generate && puts(password) < 0)
			status = STATUS_FAILED;
	}
	explicit_bzero(password, sizeof password);
	return status;
}

static enum status
take_away(const struct user *user)
{
	int err = bus_user_remove(user->file, user->name);

	if (err < 0)
		return fail(user, err);
	complain(
	    err > 0 ? "%s: %s was removed" : "%s: there is no user %s", file_of(user), user->name);
	return err > 0 ? STATUS_OK : STATUS_FAILED;
}

static void
print_user(void *arg, const char *name, uint32_t flags)
{
	(void)arg;
	printf("%s%s%s\n", name, (flags & BUS_USER_CLEAR_TEXT) != 0 ? "\tclear-text" : "",
	    (flags & BUS_USER_WEAK) != 0 ? "\tweak: links refuse it until it is added again" : "");
}

static enum status
list(const struct user *user)
{
	int count = bus_users_each(user->file, print_user, NULL);

	if (count < 0)
		return fail(user, count);
	if (count == 0)
		complain("%s: no user yet: libbus user add NAME", file_of(user));
	return STATUS_OK;
}

static enum status
check(const struct user *user)
{
	char password[PASSWORD_SIZE];
	enum status status = STATUS_FAILED;
	int err;

	if (find_password(user, false, password)) {
		err = bus_user_check(user->file, user->name, password);
		status = err < 0 ? fail(user, err) : STATUS_OK;
		if (err == 0)
			complain("%s: this is the password of %s", file_of(user), user->name);
	}
	explicit_bzero(password, sizeof password);
	return status;
}

/* --- the command -------------------------------------------------------------------------------------------- */

static const struct verb {
	const char *name;
	enum status (*run)(const struct user *user);
	bool named;          /* takes a NAME */
	const char *options; /* by letter, beside --file and --help */
} verbs[] = {
    {"add", add, true, "gcp"},
    {"remove", take_away, true, ""},
    {"list", list, false, ""},
    {"check", check, true, "p"},
};

static const struct verb *
verb_named(const char *name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* The arguments: the verb, then the user's name. */
static bool
read_words(int argc, char **argv, const struct verb **ret_verb, struct user *user)
{
	int count = argc - optind;

	*ret_verb = count > 0 ? verb_named(argv[optind]) : NULL;
	if (*ret_verb == NULL) {
		complain(
		    "command missing or unknown: give libbus user add, remove, list or check (libbus user --help)");
		return false;
	}
	if (count != ((*ret_verb)->named ? 2 : 1)) {
		complain((*ret_verb)->named ? "libbus user %s takes the name of one user"
					    : "libbus user %s takes no name",
		    (*ret_verb)->name);
		return false;
	}
	user->name = (*ret_verb)->named ? argv[optind + 1] : NULL;
	return true;
}

enum status
user_main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"file", required_argument, NULL, 'f'},
	    {"generate", no_argument, NULL, 'g'},
	    {"clear-text", no_argument, NULL, 'c'},
	    {"password-file", required_argument, NULL, 'p'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	const struct verb *verb;
	struct user user = {0};
	char given[64] = "";
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			user.file = optarg;
			continue;
		case 'h':
			fputs(help, stdout);
			return STATUS_OK;
		case 'g':
			user.generate = true;
			break;
		case 'c':
			user.flags |= BUS_USER_CLEAR_TEXT;
			break;
		case 'p':
			user.password_file = optarg;
			break;
		default:
			complain("libbus user --help lists the options");
			return STATUS_USAGE;
		}
		if (strlen(given) < sizeof given - 1)
			given[strlen(given)] = (char)c;
	}
	if (!read_words(argc, argv, &verb, &user))
		return STATUS_USAGE;
	if (strspn(given, verb->options) < strlen(given)) {
		complain(
		    "libbus user %s does not take all of these options: see libbus user --help",
		    verb->name);
		return STATUS_USAGE;
	}
	if (user.generate && user.password_file != NULL) {
		complain("--generate and --password-file exclude each other: give one of them");
		return STATUS_USAGE;
	}
	return verb->run(&user);
}
