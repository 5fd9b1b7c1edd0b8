/* named/state.h: what a named bus has beside its log. */
#ifndef BUS_NAMED_STATE_H
#define BUS_NAMED_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus_internal.h"
#include "log/log.h"
#include "named/relay.h"
#include "named/watch.h"

struct bus_role;

struct named {
	struct watch watch;
	struct relay relay;

	/* While a subscription begins: what is now, where the tail is then, and the value of the topic that it joins (NULL: none).
	 * Bus lock. */
	struct log_cursor now;
	uint64_t now_tail;
	const struct log_record *now_kept;

	struct bus_role *roles; /* that it has; bus lock */
	_Atomic uint32_t
	    roles_ended; /* futex of threads that wait for a role: changes with each role that ends here */
	_Atomic int64_t next_look_ns; /* members.c: for the dead */
	_Atomic bool told_files;      /* that the log's files are gone or cut; once */
	_Atomic bool told_values;     /* that its values are many; until they are fewer */
};

#endif
