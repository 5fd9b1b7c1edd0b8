/* link_settings.h: the arguments of Bus.listen() and Bus.dial(). */
#ifndef LIBBUS_PYTHON_LINK_SETTINGS_H
#define LIBBUS_PYTHON_LINK_SETTINGS_H

#include "core.h"

struct link_settings {
	PyObject *url;    /* borrowed, as the texts of config */
	const char *text; /* of the url */
	struct bus_link_config config;
	PyObject *paths[6]; /* held */
};

/* 0, or -1 with an exception; either way link_settings_end() ends it. settings is zeroed before. */
int link_settings_read(struct core *core, PyObject *args, PyObject *kwargs, bool dials,
    struct link_settings *settings);
void link_settings_end(struct link_settings *settings);

#endif
