/* access/users_file.h: the bytes of the users file. */
#ifndef BUS_ACCESS_USERS_FILE_H
#define BUS_ACCESS_USERS_FILE_H

#include <stddef.h>

struct bus__users_text {
	char *at;
	size_t len;
	size_t users; /* lines that are neither empty nor comments */
};

/* Reads the whole file, if only its owner may. Errors with their sentences as in access/users.h; BUS_E_SYS with ENOENT: no such
 * file. */
int bus__users_text_read(const char *path, struct bus__users_text *ret_text);
void bus__users_text_free(struct bus__users_text *text); /* keeps errno */

/* Replaces the line of this user by `line`, which includes its newline, or appends it; NULL removes the user's line. All other
 * lines stay, also unreadable ones. Readers see the old file or the new one. Makes a missing file, with mode 0600. 1: the user
 * was there; 0: not. Errors with their sentences: as above, and BUS_E_NOSPACE.
 * Blocks: while another process writes the file. */
int bus__users_edit(const char *path, const char *name, const char *line, size_t line_len);

#endif
