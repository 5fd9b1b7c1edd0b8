/* mailbox/far.h: a peer's mailbox's knowledge of the other side, where hubs are (bus/peer.h). */
#ifndef BUS_MAILBOX_FAR_H
#define BUS_MAILBOX_FAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/version.h"

struct far {
	uint8_t id[BUS__BUS_ID]; /* of the other bus */
	/* Messages of this connection carry this mark, and do not return over it; 0: a message only does not return to its
	 * publisher. */
	uint16_t via;
	bool numbered;      /* each message to it carries its publisher and its number there */
	bool fed;           /* it gets messages of other connections */
	const void *passed; /* of the message that was taken last; NULL: published here */
};

#endif
