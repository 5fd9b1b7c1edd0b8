/* hub.h: the first user of a hub, and the lines that libbus hub prints. */
#ifndef LIBBUS_HUB_H
#define LIBBUS_HUB_H

#include "cli.h"

enum { HUB_PATH = PATH_MAX };

#define HUB_USER "remote" /* the user that a hub adds to an empty users file */

/* The default users file. Complains if there is no home directory. */
bool hub_default_users(char ret_path[HUB_PATH]);

/* Adds the first user to an empty file. *ret_password is yours; it stays NULL if the file has users. Complains on failure. */
bool hub_first_user(const char *users_file, char **ret_password);

/* Prints the lines that connect a program on another machine to a listening link. password NULL: it was shown before. */
void hub_print_lines(
    const struct cli_link *link, const struct bus_link_config *cfg, const char *password);

#endif
