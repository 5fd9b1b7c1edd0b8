/* access/users_file.h: the bytes of the users file. */
#ifndef BUS_ACCESS_USERS_FILE_H
#define BUS_ACCESS_USERS_FILE_H

#include <stddef.h>

struct bus__users_text {
	char *at;
	size_t len;
	size_t users; /* lines that are neither empty nor begin with # */
};

/* Reads it whole, if only its owner may. Errors with their sentences as in access/users.h; BUS_E_SYS with ENOENT: no such file. */
int bus__users_text_read(const char *path, struct bus__users_text *ret_text);
void bus__users_text_free(struct bus__users_text *text); /* keeps errno */

/* Puts `line`, which has its end, in place of the line of this user, or behind the last one; NULL takes that line away. All others stay
 * as they are, also those that nobody could read. Readers see the old file or the new one. Makes the file where there is none,
 * with mode 0600. 1: the user was there; 0: not. Errors with their sentences: as above, and BUS_E_NOSPACE.
 * Blocks: while another process writes the file. */
int bus__users_edit(const char *path, const char *name, const char *line, size_t line_len);

#endif
