#define _GNU_SOURCE
#include "base/config_path.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libbus/error.h>

#include "base/error_text.h"
#include "base/mem.h"

int
bus__config_path(const char *name, char **ret_path)
{
	const char *config = secure_getenv("XDG_CONFIG_HOME"), *home = secure_getenv("HOME");
	bool given = config != NULL && config[0] == '/'; /* a relative one must be ignored */
	const char *begin = given ? config : home;
	size_t size;

	if (begin == NULL || begin[0] != '/')
		return bus__fail(BUS_E_INVAL,
		    "%s: there is no home directory to look for it in: set HOME, or name a file",
		    name);
	size = strlen(begin) + sizeof "/.config/libbus/" + strlen(name);
	*ret_path = bus__malloc(size);
	if (*ret_path == NULL)
		return bus__fail_about(BUS_E_NOMEM, name);
	snprintf(*ret_path, size, "%s%s/libbus/%s", begin, given ? "" : "/.config", name);
	return 0;
}

int
bus__config_make(const char *path)
{
	char *part = bus__strdup(path);
	struct stat there;
	int err = 0;

	if (part == NULL)
		return BUS_E_NOMEM;
	for (char *slash = strchr(part + 1, '/'); slash != NULL && err == 0;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		/* If the directory exists, the reason for the failure does not matter. */
		if (mkdir(part, 0700) < 0 && stat(part, &there) < 0)
			err = BUS_E_SYS;
		*slash = '/';
	}
	bus__free(part);
	return err;
}
