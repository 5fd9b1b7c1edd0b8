/* access/users_line.h: one line of the users file. */
#ifndef BUS_ACCESS_USERS_LINE_H
#define BUS_ACCESS_USERS_LINE_H

#include "access/users.h"

/* The length of a line's text: without its end, and without blanks there. 0: it has no user; it is empty, or begins with #. */
size_t bus__user_line_len(const char *line, size_t len);

/* The length of the name that a line begins with; 0: it has none that is a name. */
size_t bus__user_line_name(const char *line, size_t len);

/* Reads a line of this length. BUS_E_INVAL, BUS_E_NOTSUP, BUS_E_SYS: *ret_complaint is what is wrong, and quotes nothing. */
int bus__user_line_read(
    const char *line, size_t len, struct bus__user *ret_user, const char **ret_complaint);

/* Writes the line, with its end, and returns its length. */
size_t bus__user_line_write(const struct bus__user *user, char ret_line[BUS__USER_LINE]);

#endif
