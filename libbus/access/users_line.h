/* access/users_line.h: one line of the users file. */
#ifndef BUS_ACCESS_USERS_LINE_H
#define BUS_ACCESS_USERS_LINE_H

#include "access/users.h"

/* The length of a line's text, without its newline and blanks before it. 0: the line has no user: it is empty, or a comment. */
size_t bus__user_line_len(const char *line, size_t len);

/* The length of the name at the begin of a line; 0: there is no valid name. */
size_t bus__user_line_name(const char *line, size_t len);

/* Reads a line of this length. BUS_E_INVAL, BUS_E_NOTSUP, BUS_E_SYS: *ret_complaint says why, without quoting the line. */
int bus__user_line_read(
    const char *line, size_t len, struct bus__user *ret_user, const char **ret_complaint);

/* Writes the line with its newline, and returns its length. */
size_t bus__user_line_write(const struct bus__user *user, char ret_line[BUS__USER_LINE]);

#endif
