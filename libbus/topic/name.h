/* topic/name.h: what is a topic, what is a filter. Rules of MQTT 3.1.1, section 4.7, plus our limits. */
#ifndef BUS_TOPIC_NAME_H
#define BUS_TOPIC_NAME_H

#include <stdbool.h>
#include <stddef.h>

/* Checks a topic to publish on. 0 and its length, or BUS_E_INVAL (NULL), BUS_E_TOPIC_EMPTY, _LONG,
 * _BYTES, _WILDCARD, _RESERVED. */
int bus__topic_check(const char *topic, size_t *ret_len);

/* Checks a filter. 0 and its length, or BUS_E_INVAL (NULL), BUS_E_TOPIC_EMPTY, _LONG, _BYTES, BUS_E_FILTER. */
int bus__filter_check(const char *filter, size_t *ret_len);

/* Whether every topic that other matches is one that filter matches. Both are well-formed. */
bool bus__filter_covers(const char *filter, const char *other);

/* Cuts the level that begins at name: its length. name[length] is '/' or the end. */
size_t bus__level_len(const char *name);

/* bus_error_text() of a name that is none. Returns err. */
int bus__fail_name(int err, const char *name) __attribute__((cold, noinline));

#endif
