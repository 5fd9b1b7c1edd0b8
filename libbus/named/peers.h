/* named/peers.h: what each process says of the peers of its links, as a kept text on `$bus/peers/SLOT`, which the others read. */
#ifndef BUS_NAMED_PEERS_H
#define BUS_NAMED_PEERS_H

#include <stddef.h>
#include <stdint.h>

struct bus;
struct page;

#define PEERS_PREFIX  "$bus/peers/"
#define REFUSED_TOPIC "$bus/refused"

/* Publishes msgpack on a topic of the bus's own, for all processes. 0 or what bus__named_append() answers. */
int bus__peers_announce(struct bus *bus, const char *topic, const void *data, size_t len);

/* Keeps the text; as above. */
int bus__peers_keep(struct bus *bus, const char *text, size_t len);

/* Deletes what the process in a slot kept, if it did. As above. */
int bus__peers_end(struct bus *bus, uint32_t slot, int64_t until_ns);

/* Adds what the other processes keep. */
void bus__peers_explain(struct bus *bus, struct page *page);

#endif
