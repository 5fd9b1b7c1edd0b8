/* contract/door.h: a way from a publisher to a subscriber.
 * 
 * A rig is one door set up: a message published at `from` may arrive at `to`, the same bus if the door has no
 * link. An inbox is a mailbox at `to` that remembers its delivered messages. Topics that begin with "mark/", "stall/"
 * and "ready/" are the rig's own. */
#ifndef CONTRACT_DOOR_H
#define CONTRACT_DOOR_H

#include "link_test.h"

#include <pthread.h>

#include <libbus/own_transport.h>

enum { NAMED = -2, NO_LINK = -1, TLS = 3, OWN = LINK_TEST_SCHEMES, ROOM = 4 << 20 };

struct door {
	const char *name;
	int drain;  /* enum bus_drain of its inboxes */
	int scheme; /* of listen_url(), or OWN, or NO_LINK, or NAMED: two buses of one name */
	bool asks;  /* its listener has users */
};

/* In examples/c/own_transport.c: the door OWN. */
extern const struct bus_transport own_transport;

struct rig {
	const struct door *door;
	struct bus *from, *to;
	struct bus_link *listener, *dialled;
	char url[256];
	unsigned ready;
};

struct item {
	char topic[64];
	uint8_t *data, *headers;
	struct bus_msg msg;
};

struct inbox {
	struct rig *rig;
	struct bus_mailbox *mbox;
	struct bus_sub *sub;  /* of its first filter */
	pthread_mutex_t lock; /* of items: the callback's thread appends, the test takes */
	struct item *items;
	size_t count, cap, taken;
	unsigned stalls; /* messages that only stalled it; its counters have them too */
	pthread_t staller;
	_Atomic bool stalled, inside;
};

void rig_open(struct rig *rig, const struct door *door);
void rig_close(struct rig *rig);
bool has_link(const struct rig *rig);
bool is_named(const struct door *door);

/* The configuration of its dialling side. */
struct bus_link_config dial_config(const struct door *door);

/* Opens a bus with the name that both ends of such a door share. */
struct bus *open_named(const char *dir);

/* Returns when `from` knows the subscriptions of `to`. */
void rig_ready(struct rig *rig);

/* Cuts the connection from outside; the dialling side must reconnect. */
void rig_cut(struct rig *rig);
void rig_mend(struct rig *rig);

/* Opens an inbox for the filters, a list that ends with NULL; bytes 0: room for everything. */
void inbox_open(
    struct inbox *inbox, struct rig *rig, int full, size_t bytes, const char *const *filters);

/* The same as one of several receivers that share the messages; one policy, room for everything. */
void inbox_share(struct inbox *inbox, struct rig *rig, const char *const *filters);

void inbox_close(struct inbox *inbox);
struct bus_stats inbox_stats(struct inbox *inbox);

/* From here to inbox_resume() no message is taken out of the mailbox. */
void inbox_stall(struct inbox *inbox);
void inbox_resume(struct inbox *inbox);

/* Moves waiting messages into items, if that takes a caller. */
void inbox_pump(struct inbox *inbox);

/* Whether there is a message to take. */
bool inbox_has_next(struct inbox *inbox);

/* Waits for the next message. Borrowed until the next take; its bytes until the inbox is closed. */
const struct item *inbox_take(struct inbox *inbox);

/* All earlier messages have been taken. */
void inbox_ends(struct inbox *inbox);

void publish(struct rig *rig, const char *topic, const void *data, size_t len);
void publish_number(struct rig *rig, const char *topic, unsigned number);
void retain(struct rig *rig, const char *topic, const char *text);
unsigned number_of(const struct item *item);

#endif
