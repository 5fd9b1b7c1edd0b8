/* mailbox/far.h: what a peer's mailbox knows of the other side, where hubs are (bus/peer.h). */
#ifndef BUS_MAILBOX_FAR_H
#define BUS_MAILBOX_FAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/version.h"

struct far {
	uint8_t id[BUS__BUS_ID]; /* of the other bus */
	/* What this connection brings has this mark, and does not go back by it; 0: only to where it was published. */
	uint16_t via;
	bool numbered; /* each message to it says who published it, and under which number there */
	bool fed;      /* it gets what other connections bring */
	const void *passed; /* of the message that was taken last; NULL: it was published here */
};

#endif
