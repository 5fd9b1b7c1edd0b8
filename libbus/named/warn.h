/* named/warn.h: warnings of a named bus, on $bus/warnings. */
#ifndef BUS_NAMED_WARN_H
#define BUS_NAMED_WARN_H

#include "log/log.h"

struct bus;

/* Warns once that the files of a named bus were removed or truncated, if a subscription watches. No lock held. */
void bus__warn_files(struct bus *bus, enum log_trouble trouble);

/* Warns that the retained values of a named bus take most of their space or number, if a subscription watches; again when
 * they were fewer since. Nothing is held. */
void bus__warn_values(struct bus *bus);

#endif
