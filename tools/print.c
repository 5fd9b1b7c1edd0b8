/* Values on stdout. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether its JSON escapes nothing that a terminal would act on. */
static bool
is_bare(const char *json)
{
	for (; (json = strchr(json, '\\')) != NULL; json += 2)
		if (json[1] != '"' && json[1] != '\\' && strncmp(json, "\\u003c", 6) != 0)
			return false;
	return true;
}

int
print_json(const struct bus_value *value)
{
	char *text;
	size_t len;
	int err = bus_value_json(value, &text, &len);

	if (err < 0)
		return err;
	fwrite(text, 1, len, stdout);
	free(text);
	return 0;
}

int
print_plain(const struct bus_value *value)
{
	char *json;
	size_t len;
	int err = bus_value_json(value, &json, &len);

	if (err < 0)
		return err;
	if (value->kind == BUS_KIND_TEXT && is_bare(json))
		fwrite(value->as.bytes, 1, value->count, stdout);
	else
		fwrite(json, 1, len, stdout);
	free(json);
	return 0;
}
