/* password.h: passwords of commands. The words of a command line are seen by everybody on the machine, so none is there. */
#ifndef LIBBUS_PASSWORD_H
#define LIBBUS_PASSWORD_H

#include <stdbool.h>

enum { PASSWORD_SIZE = 1024 + 2 /* one byte more than the library takes, and the NUL byte */ };

/* Reads the first line of a file; "-": of standard input, and no byte more. Complains if there is none. */
bool password_of_file(const char *path, char ret_text[PASSWORD_SIZE]);

/* Asks on the terminal, without echo. false: there is no terminal (*ret_none), or a signal that ends us came. */
bool password_of_terminal(const char *prompt, char ret_text[PASSWORD_SIZE], bool *ret_none);

/* Makes one that cannot be guessed, of letters and digits that are not mistaken for each other: 100 bits. Complains if the system has no
 * random bytes. */
bool password_make(char ret_text[PASSWORD_SIZE]);

#endif
