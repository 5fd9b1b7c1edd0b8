#define _GNU_SOURCE
#include "password.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

/* Reads the first line byte by byte: the rest stays for other programs, and no buffer keeps the password. A longer line is
 * cut to a length that the library refuses. */
static bool
read_line(int fd, char ret_text[PASSWORD_SIZE])
{
	size_t len = 0;
	ssize_t got;
	char c = '\0';

	while ((got = read(fd, &c, 1)) == 1 && c != '\n')
		if (len < PASSWORD_SIZE - 1)
			ret_text[len++] = c;
	if (len > 0 && ret_text[len - 1] == '\r')
		len--;
	ret_text[len] = '\0';
	return got >= 0 && len > 0;
}

bool
password_of_file(const char *path, char ret_text[PASSWORD_SIZE])
{
	bool is_input = strcmp(path, "-") == 0;
	int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return false;
	}
	ok = read_line(fd, ret_text);
	if (!is_input)
		close(fd);
	if (!ok)
		complain("%s: the first line is empty: write the password there",
		    is_input ? "standard input" : path);
	return ok;
}

/* --- terminal ---------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void
note_signal(int number)
{
	caught = number;
}

static const int endings[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

enum { ENDINGS = sizeof endings / sizeof endings[0] };

/* Waits for a line. Signals are blocked except inside ppoll(), so a signal just before the wait is not missed. */
static bool
wait_for_line(int fd)
{
	struct pollfd line = {.fd = fd, .events = POLLIN};
	sigset_t ends, before;
	int got;

	sigemptyset(&ends);
	for (int i = 0; i < ENDINGS; i++)
		sigaddset(&ends, endings[i]);
	sigprocmask(SIG_BLOCK, &ends, &before);
	do
		got = caught == 0 ? ppoll(&line, 1, NULL, &before) : 0;
	while (got < 0 && errno == EINTR && caught == 0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return got > 0;
}

bool
password_of_terminal(const char *prompt, char ret_text[PASSWORD_SIZE], bool *ret_none)
{
	const struct sigaction interrupt = {.sa_handler = note_signal};
	struct sigaction before[ENDINGS];
	struct termios shown, hidden;
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	bool ok;

	*ret_none = fd < 0 || tcgetattr(fd, &shown) != 0;
	if (*ret_none) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	/* The echo must be restored also when a signal ends the command. */
	caught = 0;
	for (int i = 0; i < ENDINGS; i++)
		sigaction(endings[i], &interrupt, &before[i]);
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fd, TCSAFLUSH, &hidden);
	(void)!write(fd, prompt, strlen(prompt));
	ok = wait_for_line(fd) && read_line(fd, ret_text) && caught == 0;
	tcsetattr(fd, TCSAFLUSH, &shown);
	(void)!write(fd, "\n", 1);
	close(fd);
	for (int i = 0; i < ENDINGS; i++)
		sigaction(endings[i], &before[i], NULL);
	if (caught != 0)
		raise(caught);
	return ok;
}

/* --- a new password ---------------------------------------------------------------------------------------- */

bool
password_make(char ret_text[PASSWORD_SIZE])
{
	static const char letters[] =
	    "abcdefghijkmnpqrstuvwxyz23456789"; /* 32, without l, o, 0, 1 */
	enum { LETTERS = 20, GROUP = 5 };
	unsigned char random[LETTERS];
	char *to = ret_text;

	if (getrandom(random, sizeof random, 0) != sizeof random) {
		complain("random bytes: %s", strerror(errno));
		return false;
	}
	for (int i = 0; i < LETTERS; i++) {
		if (i > 0 && i % GROUP == 0)
			*to++ = '-';
		*to++ = letters[random[i] % (sizeof letters - 1)];
	}
	*to = '\0';
	explicit_bzero(random, sizeof random);
	return true;
}
