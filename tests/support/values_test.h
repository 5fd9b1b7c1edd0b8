/* support/values_test.h: values of buses that have links. */
#ifndef VALUES_TEST_H
#define VALUES_TEST_H

#include "link_test.h"

#include <inttypes.h>

#include "base/version.h"
#include "bus/peer.h"
#include "link/session.h"
#include "log/log.h"

enum { HOUR_S = 3600, TOPICS = 64 };

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

static const struct bus_link_config narrow = {
    .size = sizeof narrow, .heartbeat_ms = 3600000, .bytes = 4096};

/* What a topic keeps; "": nothing. Its filter is one that is there already: a new one would fetch what peers keep. */
static inline const char *
value_of(struct bus *bus, const char *topic)
{
	static char text[256];
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;

	text[0] = '\0';
	ck_bus(bus_mailbox_open(bus,
		   &(struct bus_mailbox_config){
		       .size = sizeof(struct bus_mailbox_config), .bytes = 1 << 22},
		   &mbox),
	    0);
	ck_bus(bus_mailbox_subscribe(mbox, "v/#", NULL, NULL, NULL), 0);
	while (bus_recv(mbox, 0, &msg) == 1)
		if (msg->flags & BUS_MSG_KEPT && strcmp(msg->topic, topic) == 0)
			snprintf(text, sizeof text, "%.*s", (int)msg->len, (const char *)msg->data);
	bus_mailbox_close(mbox);
	return text;
}

static inline bool
has(struct bus *bus, const char *topic, const char *text)
{
	return strcmp(value_of(bus, topic), text) == 0;
}

#endif
