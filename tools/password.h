/* password.h: reads and makes passwords. None is an argument: a command line is visible to every user of the machine. */
#ifndef LIBBUS_PASSWORD_H
#define LIBBUS_PASSWORD_H

#include <stdbool.h>

enum { PASSWORD_SIZE = 1024 + 2 /* one byte above the library's limit, and the NUL byte */ };

/* Reads the first line of a file, or of standard input for "-", and no byte after it. Complains on failure. */
bool password_of_file(const char *path, char ret_text[PASSWORD_SIZE]);

/* Asks on the terminal, without echo. false: there is no terminal (*ret_none), or a signal asked the command to end. */
bool password_of_terminal(const char *prompt, char ret_text[PASSWORD_SIZE], bool *ret_none);

/* Makes a random password of 100 bits, without letters and digits that look alike. Complains if the system has no random
 * bytes. */
bool password_make(char ret_text[PASSWORD_SIZE]);

#endif
