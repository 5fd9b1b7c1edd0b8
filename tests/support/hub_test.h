/* support/hub_test.h: buses that hubs connect. Each message says which bus published it and as which of its messages, so every bus
 * knows which came, how often and in which order. */
#ifndef HUB_TEST_H
#define HUB_TEST_H

#include "link_test.h"

#include "cut.h"

enum { HUB_BUSES = 12, HUB_MESSAGES = 4096, HUB_LINKS = 24 };

/* What a bus heard. */
struct tally {
	_Atomic unsigned count, twice, backward;
	_Atomic uint64_t lost;
	_Atomic bool at_least;
	unsigned next[HUB_BUSES];
	_Atomic uint8_t came[HUB_BUSES][HUB_MESSAGES];
};

struct net {
	struct bus *bus[HUB_BUSES];
	struct bus_link *listener[HUB_BUSES];
	struct tally tally[HUB_BUSES];
	unsigned said[HUB_BUSES];
	struct bus_link *dialled[HUB_LINKS];
	struct cut wires[HUB_LINKS];
	unsigned links;
};

static inline void
net_hear(void *arg, const struct bus_msg *msg)
{
	struct tally *tally = arg;
	uint32_t said[2];

	tally->lost += msg->lost;
	if (msg->flags & BUS_MSG_LOST_AT_LEAST)
		tally->at_least = true;
	if (msg->len != sizeof said)
		return;
	memcpy(said, msg->data, sizeof said);
	tally->backward += said[1] < tally->next[said[0]];
	tally->next[said[0]] = said[1] + 1;
	tally->twice += tally->came[said[0]][said[1]]++ > 0;
	tally->count++;
}

static const struct bus_link_config net_hub = {
    .size = sizeof net_hub, .heartbeat_ms = 3600000, .relays = 1};
static const struct bus_link_config net_leaf = {.size = sizeof net_leaf, .heartbeat_ms = 3600000};

/* The bus i of the net: with a name, or a private one. It hears what is published on n/#, and
 * values on v/#. */
static inline void
net_open(struct net *net, unsigned i, bool named)
{
	char name[16];

	snprintf(name, sizeof name, "n%u", i);
	net->bus[i] = named ? join_as(bus_test_dir(), name) : open_bus();
	ck_bus(bus_subscribe(net->bus[i], "n/#", net_hear, &net->tally[i], NULL), 0);
	ck_bus(bus_subscribe(net->bus[i], "v/#", ignore_message, NULL, NULL), 0);
}

static inline void
net_listen(struct net *net, unsigned i, const char *url)
{
	ck_bus(bus_listen(net->bus[i], url, &net_hub, &net->listener[i]), 0);
}

/* A hub: net_open() and an address. */
static inline void
net_open_hub(struct net *net, unsigned i, bool named)
{
	char url[64];

	net_open(net, i, named);
	snprintf(url, sizeof url, "inproc://hub%u", i);
	net_listen(net, i, url);
}

/* Links bus i to the hub. Returns the number of the link. */
static inline unsigned
net_dial(struct net *net, unsigned i, unsigned hub, const struct bus_link_config *cfg)
{
	unsigned link = net->links++;
	char url[256];

	ck_assert_int_gt(bus_link_url(net->listener[hub], url, sizeof url), 0);
	ck_bus(bus_dial(net->bus[i], url, cfg, &net->dialled[link]), 0);
	ck_eventually(is_up(net->dialled[link]));
	return link;
}

/* The same by a wire that can be cut; the hub listens on tcp. */
static inline unsigned
net_dial_by_wire(struct net *net, unsigned i, unsigned hub, const struct bus_link_config *cfg)
{
	unsigned link = net->links++;
	char url[256];

	ck_assert_int_gt(bus_link_url(net->listener[hub], url, sizeof url), 0);
	cut_open(&net->wires[link], url);
	ck_bus(bus_dial(net->bus[i], net->wires[link].url, cfg, &net->dialled[link]), 0);
	ck_eventually(is_up(net->dialled[link]));
	return link;
}

static inline void
net_cut(struct net *net, unsigned link)
{
	net->wires[link].is_cut = true;
	ck_eventually(!is_up(net->dialled[link]));
}

static inline void
net_mend(struct net *net, unsigned link)
{
	net->wires[link].is_cut = false;
	ck_eventually(is_up(net->dialled[link]));
}

static inline void
net_say(struct net *net, unsigned i, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		const uint32_t said[2] = {i, net->said[i]++};

		ck_bus(bus_publish(net->bus[i], "n/x", said, sizeof said), 0);
	}
}

/* Waits until each bus from `first` to before `end` has everything of all of them, each once. */
#define net_await_all(net, first, end)                                                             \
	do {                                                                                       \
		unsigned all_ = 0;                                                                 \
		for (unsigned i_ = (first); i_ < (end); i_++)                                      \
			all_ += (net)->said[i_];                                                   \
		for (unsigned i_ = (first); i_ < (end); i_++) {                                    \
			ck_eventually((net)->tally[i_].count >= all_);                             \
			ck_assert_uint_eq((net)->tally[i_].count, all_);                           \
			ck_assert_uint_eq((net)->tally[i_].twice, 0);                              \
			ck_assert_uint_eq((net)->tally[i_].lost, 0);                               \
		}                                                                                  \
	} while (0)

/* Ends a bus of the net, but for the links that it dialled. */
static inline void
net_end(struct net *net, unsigned i)
{
	bus_link_close(net->listener[i]);
	ck_assert_int_ge(bus_close(net->bus[i], 5000), 0);
	net->listener[i] = NULL;
	net->bus[i] = NULL;
}

static inline void
net_close(struct net *net)
{
	for (unsigned i = 0; i < net->links; i++)
		bus_link_close(net->dialled[i]);
	for (unsigned i = 0; i < HUB_BUSES; i++)
		if (net->bus[i] != NULL)
			net_end(net, i);
	for (unsigned i = 0; i < net->links; i++)
		if (net->wires[i].url[0] != '\0')
			cut_close(&net->wires[i]);
	free(net);
}

static inline struct net *
net_new(void)
{
	struct net *net = calloc(1, sizeof *net);

	ck_assert_ptr_nonnull(net);
	return net;
}

#endif
