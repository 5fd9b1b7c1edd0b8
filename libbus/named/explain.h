/* named/explain.h: what bus_explain() says of a named bus (bus/kind.h). */
#ifndef BUS_NAMED_EXPLAIN_H
#define BUS_NAMED_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

struct bus;
struct explaining;

/* A process that rests notes where it is once a second: one that notes nothing for so long is late. */
#define EXPLAIN_LATE_NS INT64_C(3000000000)

/* Reads the files of the other processes, without asking them. No lock held. */
void bus__explain_others(struct explaining *e, struct bus *bus);

/* What is kept of a topic. Bus lock. */
void bus__explain_logged(struct explaining *e, struct bus *bus, size_t len);

void bus__explain_next(struct explaining *e, struct bus *bus);

#endif
