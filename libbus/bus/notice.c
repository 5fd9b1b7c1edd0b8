#include "bus/notice.h"

#include <string.h>

#include <libbus/pack.h>

#include "base/clock.h"
#include "bus/peer.h"
#include "bus/words.h"
#include "value/value.h"

#define LOOK_MOST                                                                                  \
	1024 /* places of the trie in one round: a fraction of a millisecond under the bus lock */

bool
bus__is_notice_filter(const char *filter)
{
	return strncmp(filter, "$bus/", 5) == 0;
}

static void
pack_name(struct bus_packer *packer, const char *key, const char *text)
{
	bus_pack_text(packer, key, strlen(key));
	bus_pack_text(packer, text, strlen(text));
}

static void
pack_number(struct bus_packer *packer, const char *key, uint64_t number)
{
	bus_pack_text(packer, key, strlen(key));
	bus_pack_uint(packer, number);
}

/* Publishes the packed notice. Without memory there is no notice, but its losses are still counted. A notice that fails
 * leaves bus_error_text() as it is, to the call that it runs in. */
static int
publish_packed(struct bus *bus, const char *topic, struct bus_packer *packer)
{
	const void *data;
	size_t len;
	int err = bus__packer_data(packer, &data, &len);

	if (err == 0)
		err = bus__publish_notice(bus, topic, data, len);
	return err;
}

/* --- warnings --------------------------------------------------------------------------------------------- */

void
bus__warn(struct bus *bus, const char *kind, const char *about, const char *name, const char *unit,
    uint64_t number, const char *text)
{
	struct bus_packer *packer = bus__packer_new();

	if (packer == NULL)
		return;
	bus_pack_map(packer, 4);
	pack_name(packer, "warning", kind);
	pack_name(packer, about, name);
	pack_number(packer, unit, number);
	pack_name(packer, "text", text);
	publish_packed(bus, "$bus/warnings", packer);
	bus_packer_free(packer);
}

void
bus__notice_refused(struct bus *bus, const struct bus__refused *refused, uint64_t count)
{
	struct bus_packer *packer = bus__packer_new();
	char text[BUS__REFUSED_LINE];
	const void *data;
	size_t len;

	if (packer == NULL)
		return;
	bus__refusal_text(refused, text);
	bus_pack_map(packer, 5);
	pack_name(packer, "refused", bus__refusal_word(refused->reason));
	pack_name(packer, "address", refused->where);
	pack_name(packer, "user", refused->user != NULL ? refused->user : "");
	pack_number(packer, "count", count);
	pack_name(packer, "text", text);
	if (bus__packer_data(packer, &data, &len) == 0)
		bus->kind->announce(bus, "$bus/refused", data, len);
	bus_packer_free(packer);
}

bool
bus__is_warning_due(struct bus *bus, struct topic *topic)
{
	return atomic_load_explicit(&bus->watched, memory_order_relaxed) != 0 &&
	       !atomic_exchange_explicit(&topic->warned, true, memory_order_relaxed);
}

void
bus__warn_unheard(struct bus *bus, const char *topic)
{
	bus__warn(bus, "unheard", "topic", topic, "publishes", UNHEARD_MANY,
	    "published 1,000 times without a subscriber");
}

/* The subscription that decides whether to warn of a filter: the oldest that is not a peer's, since a peer's own bus warns of
 * that. */
static struct bus_sub *
oldest_here(const struct node *node)
{
	struct bus_sub *sub = node->wanted > 0 ? node->subs : NULL;

	while (sub != NULL && sub->mbox->is_peer)
		sub = sub->next_at_node;
	return sub;
}

struct look {
	uint32_t now_s;
	struct bus_sub *found;
	const struct node *node;
};

static void
look_at(void *arg, struct node *node)
{
	struct look *look = arg;
	struct bus_sub *sub = oldest_here(node);

	if (look->found == NULL && sub != NULL && !sub->matched && !sub->warned &&
	    look->now_s - sub->since_s >= UNMATCHED_LONG) {
		look->found = sub;
		look->node = node;
	}
}

/* Finds the next filter to warn of. false: none, or enough for this round. */
static bool
find_unmatched(struct bus *bus, uint32_t now_s, size_t *left, char *ret_filter)
{
	struct look look = {.now_s = now_s};

	pthread_mutex_lock(&bus->lock); /* makes no garbage, so there is none to wait for */
	if (*left > bus->trie.edge_slots)
		*left = bus->trie.edge_slots;
	while (*left > 0) {
		bus__trie_look(&bus->trie, bus->look_hand, look_at, &look);
		if (look.found != NULL)
			break; /* there may be another one in the same place */
		bus->look_hand++;
		--*left;
	}
	if (look.found != NULL) {
		look.found->warned = true;
		bus__trie_name(look.node, ret_filter);
	}
	pthread_mutex_unlock(&bus->lock);
	return look.found != NULL;
}

static void
warn_unmatched(struct bus *bus, uint32_t now_s)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];
	size_t left = LOOK_MOST;

	while (find_unmatched(bus, now_s, &left, filter))
		if (filter[0] != '$') /* the bus makes its own topics on demand */
			bus__warn(bus, "unmatched", "filter", filter, "seconds", UNMATCHED_LONG,
			    "subscribed 60 s, nothing ever matched");
}

/* --- losses ----------------------------------------------------------------------------------------------- */

/* A filter of the mailbox, to name it in a notice; "" if it has none any more. */
static void
name_mailbox(struct bus *bus, const struct bus_mailbox *m, char *ret_filter)
{
	ret_filter[0] = '\0';
	pthread_mutex_lock(&bus->lock);
	if (m->receivers != NULL)
		m = m->receivers;
	if (m->subs != NULL)
		bus__trie_name(m->subs->node, ret_filter);
	pthread_mutex_unlock(&bus->lock);
}

static int
publish_losses(struct bus *bus, const struct bus_mailbox *m, const struct bus_stats *stats)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus_packer *packer = bus__packer_new();
	uint64_t total = 0;
	int err;

	if (packer == NULL)
		return BUS_E_NOMEM;
	name_mailbox(bus, m, filter);
	bus_pack_map(packer, 5 + BUS_LOSS_COUNT);
	pack_number(packer, "mailbox", m->number);
	pack_name(packer, "kind", m->is_peer ? "peer" : "mailbox");
	pack_name(packer, "filter", filter);
	pack_name(packer, "policy", bus__policy_words[m->full]);
	for (int i = 0; i < BUS_LOSS_COUNT; i++) {
		pack_number(packer, bus__loss_words[i], stats->lost[i] - m->told[i]);
		total += stats->lost[i];
	}
	pack_number(packer, "total", total);
	err = publish_packed(bus, "$bus/drops", packer);
	bus_packer_free(packer);
	return err;
}

static void
tell_losses_of(struct bus *bus, struct bus_mailbox *m)
{
	struct bus_stats stats = {.size = sizeof stats};

	bus__mailbox_add_stats(m, 0, &stats);
	/* Room may have been made without dropping anything. */
	if (memcmp(m->told, stats.lost, sizeof m->told) == 0)
		return;
	if (publish_losses(bus, m, &stats) == 0)
		memcpy(m->told, stats.lost, sizeof m->told);
	else /* without a notice now, the next one includes this loss */
		atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

static void
tell_losses(struct bus *bus)
{
	struct bus_mailbox *lossy = NULL;

	pthread_mutex_lock(&bus->lock);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next) {
		/* Clear before reading the counters: a later loss sets it again. */
		if (!atomic_load_explicit(&m->lossy, memory_order_relaxed) ||
		    !atomic_exchange_explicit(&m->lossy, false, memory_order_relaxed))
			continue;
		m->next_lossy = lossy;
		lossy = bus__mailbox_ref(m);
	}
	pthread_mutex_unlock(&bus->lock);
	while (lossy != NULL) {
		struct bus_mailbox *m = lossy;

		lossy = m->next_lossy;
		tell_losses_of(bus, m);
		bus__mailbox_unref(m);
	}
}

/* --- rounds ------------------------------------------------------------------------------------------------- */

void
bus__round(struct bus *bus, int64_t now_ns)
{
	/* Acquire: pairs with the release below; one thread at a time owns the state of rounds. */
	if (now_ns < atomic_load_explicit(&bus->next_round_ns, memory_order_relaxed) ||
	    !bus__is_open(bus) ||
	    atomic_exchange_explicit(&bus->in_round, true, memory_order_acquire))
		return;
	if (now_ns >= atomic_load_explicit(&bus->next_round_ns, memory_order_relaxed)) {
		atomic_store_explicit(
		    &bus->next_round_ns, now_ns + NOTICE_PAUSE_NS, memory_order_relaxed);
		tell_losses(bus);
		warn_unmatched(bus, (uint32_t)(now_ns / 1000000000));
	}
	atomic_store_explicit(&bus->in_round, false, memory_order_release);
}

void
bus__round_now(struct bus *bus)
{
	bus__round(bus, bus__now_ns());
}

void
bus__heed(struct bus *bus)
{
	if (atomic_load_explicit(&bus->watched, memory_order_relaxed) != 0)
		bus__round_now(bus);
}
