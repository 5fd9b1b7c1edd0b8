/* hub_user.c: the first user of a hub. */
#define _GNU_SOURCE
#include "hub.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "password.h"

bool
hub_default_users(char ret_path[HUB_PATH])
{
	int err = bus_users_file(ret_path, HUB_PATH);

	if (err < 0)
		complain_of("--users", err);
	return err >= 0;
}

static void
ignore(void *arg, const char *name, uint32_t flags)
{
	(void)arg, (void)name, (void)flags;
}

/* Whether this is the default file. The library creates the directories of that one only. */
static bool
is_default(const char *users_file)
{
	char path[HUB_PATH];

	return bus_users_file(path, sizeof path) >= 0 && strcmp(path, users_file) == 0;
}

bool
hub_first_user(const char *users_file, char **ret_password)
{
	const char *file = is_default(users_file) ? NULL : users_file;
	char password[PASSWORD_SIZE];
	int err = bus_users_each(file, ignore, NULL);

	if (err > 0)
		return true;
	if (err == 0 && isatty(STDOUT_FILENO) == 0) {
		complain(
		    "%s: there is no user yet, and no terminal to show a password on: add a user: libbus user add NAME",
		    users_file);
		return false;
	}
	if (err == 0 && !password_make(password))
		return false;
	if (err == 0)
		err = bus_user_set(file, HUB_USER, password, 0);
	if (err >= 0)
		*ret_password = strdup(password);
	else
		complain_of(users_file, err);
	explicit_bzero(password, sizeof password);
	return err >= 0 && *ret_password != NULL;
}
