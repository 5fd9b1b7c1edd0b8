/* support/look.h: a named bus looks once a second, when a thread of it rests, for dead members, removed files and values that
 * take most of their room. Here it looks at each rest. For tests that link the library's inside. */
#ifndef BUS_TEST_LOOK_H
#define BUS_TEST_LOOK_H

#include "world.h"

#include "named/members.h"

/* In this process, and in those that it forks. */
static inline void
look_at_each_rest(void)
{
	bus__look_ns = 0;
}

/* Nothing comes in twenty looks. */
#define expect_nothing_in_looks(mbox)                                                              \
	do {                                                                                       \
		const struct bus_msg *none_;                                                       \
		for (int look_ = 0; look_ < 20; look_++)                                           \
			ck_bus(bus_recv(mbox, 1, &none_), 0);                                      \
	} while (0)

#endif
