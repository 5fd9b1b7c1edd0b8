/* named/warn.h: warnings of a named bus, on $bus/warnings. */
#ifndef BUS_NAMED_WARN_H
#define BUS_NAMED_WARN_H

#include "log/log.h"

struct bus;

/* Tells that the files of a named bus were removed or truncated, if somebody watches; once. Nothing is held. */
void bus__warn_files(struct bus *bus, enum log_trouble trouble);

/* Tells that the retained values of a named bus take most of the room or of the number that they may, if somebody watches; again when
 * they were fewer since. Nothing is held. */
void bus__warn_values(struct bus *bus);

#endif
