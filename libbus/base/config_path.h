/* base/config_path.h: the place of a user's settings. */
#ifndef BUS_BASE_CONFIG_PATH_H
#define BUS_BASE_CONFIG_PATH_H

/* $XDG_CONFIG_HOME/libbus/name or ~/.config/libbus/name, as a new text. 0; BUS_E_NOMEM; BUS_E_INVAL, with its sentence: there is
 * no home directory. */
int bus__config_path(const char *name, char **ret_path);

/* Makes the missing directories of such a path, for this user alone. 0, BUS_E_NOMEM or BUS_E_SYS (errno). */
int bus__config_make(const char *path);

#endif
