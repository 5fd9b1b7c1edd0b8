/* The links of a bus, from outside: the public calls, and the hooks of the core. */
#include <stddef.h>
#include <string.h>

#include "access/backoff.h"
#include "base/clock.h"
#include "base/error_text.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"
#include "base/sized.h"
#include "link/changes.h"
#include "link/debris.h"
#include "link/flush.h"
#include "link/frame.h"
#include "link/link.h"
#include "link/peers.h"
#include "link/terms.h"

#define LOOK_NS  INT64_C(5000000)
#define LEAST_NS INT64_C(60000000) /* granted to links beyond bus_close()'s deadline */

enum { MOST_LINKS = 1024, LINK_CLOSE_MS = 500, SETTLE_MS = 300 };
enum { DEFAULT_PEER_BYTES = 32 * 1024 * 1024 };
enum { DEFAULT_BYTES = 1024 * 1024, DEFAULT_HEARTBEAT_MS = 5000, DEFAULT_PEERS = 1024 };

/* Sleeps while *word is `seen`, until the deadline, or for a moment if that has passed. */
static void
sleep_on(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	int64_t soon_ns = bus__now_ns() + LOOK_NS;

	bus__park(word, seen, deadline_ns > soon_ns ? deadline_ns : soon_ns);
}

bool
bus__links_await(struct bus__links *links, _Atomic uint32_t *word, int64_t deadline_ns)
{
	while (atomic_load_explicit(word, memory_order_acquire) == 0) {
		if (bus__now_ns() >= deadline_ns && bus__calls_on_publisher(links->bus))
			return false;
		sleep_on(word, 0, deadline_ns);
	}
	return true;
}

bool
bus__links_enter(struct bus__links *links)
{
	bool open;

	pthread_mutex_lock(&links->lock);
	open = !links->closed;
	if (open)
		atomic_fetch_add_explicit(&links->users, 1, memory_order_relaxed);
	pthread_mutex_unlock(&links->lock);
	return open;
}

void
bus__links_leave(struct bus__links *links)
{
	atomic_fetch_sub_explicit(&links->users, 1, memory_order_release);
	bus__unpark(&links->users);
}

/* --- hooks of the core ------------------------------------------------------------------------------- */

static void
close_all(void *arg)
{
	struct bus__links *links = arg;
	struct bus_link *next;

	if (links->closing)
		return;
	links->closing = true;
	if (links->first == NULL) {
		atomic_store_explicit(&links->idle, 1, memory_order_release);
		bus__unpark(&links->idle);
	}
	for (struct bus_link *link = links->first; link != NULL; link = next) {
		next = link->next;
		bus__link_close(link);
	}
	bus__peers_forget_all(links);
}

static bool
await_users(struct bus__links *links, int64_t deadline_ns)
{
	uint32_t users;

	while ((users = atomic_load_explicit(&links->users, memory_order_acquire)) != 0) {
		if (bus__now_ns() >= deadline_ns && bus__calls_on_publisher(links->bus))
			return false;
		sleep_on(&links->users, users, deadline_ns);
	}
	return true;
}

static void
let_go(void *bus)
{
	bus__unref(bus);
}

/* Does hook_close()'s work on an abandoned link thread, once it may end. */
static void
end_alone(void *arg)
{
	struct bus__links *links = arg;

	if (atomic_load_explicit(&links->users, memory_order_acquire) == 0) {
		close_all(links);
		if (atomic_load_explicit(&links->idle, memory_order_relaxed) != 0) {
			bus__network_unwatch(&links->network);
			bus__loop_end(&links->loop, let_go, links->bus);
			return;
		}
	}
	bus__timer_set(&links->loop, &links->end_timer, bus__now_ns() + LOOK_NS);
}

/* The deadline for objects of registered transports: the time left, and after LEAST_NS no more than the 100 ms that bus_close()
 * may add. */
static int64_t
settle_until(int64_t deadline_ns)
{
	int64_t least_ns = bus__now_ns() + INT64_C(100000000) - LEAST_NS,
		most_ns = bus__deadline_ns(SETTLE_MS);

	if (deadline_ns < least_ns)
		return least_ns;
	return deadline_ns < most_ns ? deadline_ns : most_ns;
}

static void
hook_close(void *arg, int64_t deadline_ns)
{
	struct bus__links *links = arg;
	int64_t least_ns = bus__now_ns() + LEAST_NS;

	links->close_until_ns = deadline_ns;
	if (deadline_ns < least_ns)
		deadline_ns = least_ns;
	pthread_mutex_lock(&links->lock);
	links->closed = true;
	pthread_mutex_unlock(&links->lock);
	links->end_timer.fire = end_alone;
	links->end_timer.arg = links;
	if (await_users(links, deadline_ns)) {
		links->close_task = (struct bus__task){.run = close_all, .arg = links};
		bus__loop_post(&links->loop, &links->close_task);
		if (bus__links_await(links, &links->idle, deadline_ns)) {
			bus__network_unwatch(&links->network);
			bus__loop_stop(&links->loop);
			if (atomic_load_explicit(&links->settles, memory_order_relaxed))
				bus__transport_settle(settle_until(links->close_until_ns));
			return;
		}
	}
	bus__ref(links->bus);
	links->end_task = (struct bus__task){.run = end_alone, .arg = links};
	bus__loop_post(&links->loop, &links->end_task);
}

static void
hook_free(void *arg)
{
	struct bus__links *links = arg;

	bus__changes_clear(links);
	bus__peers_fini(links);
	bus__roster_fini(links);
	bus__backoff_free(links->backoff);
	bus__buffers_free(&links->buffers);
	bus__loop_fini(&links->loop);
	pthread_mutex_destroy(&links->lock);
	bus__free(links);
}

static const struct bus__link_hooks hooks = {
    .filter_changed = bus__changes_add,
    .flush = bus__flush_links,
    .close = hook_close,
    .explain = bus__roster_explain,
    .free = hook_free,
};

/* On the link thread. */
static void
hurry_all(void *arg)
{
	struct bus__links *links = arg;

	for (struct bus_link *link = links->first; link != NULL; link = link->next)
		bus__link_hurry(link);
}

/* On the reactor's thread. */
static void
network_changed(struct bus__network_watch *watch)
{
	struct bus__links *links =
	    (struct bus__links *)(void *)((char *)watch - offsetof(struct bus__links, network));

	bus__loop_post(&links->loop, &links->network_task);
}

static int
make_links(struct bus *bus, void **ret_links)
{
	struct bus__links *links = bus__calloc(1, sizeof *links);
	int err;

	if (links == NULL)
		return BUS_E_NOMEM;
	links->bus = bus;
	links->network.changed = network_changed;
	links->network_task = (struct bus__task){.run = hurry_all, .arg = links};
	memcpy(&links->random, bus__id(bus), sizeof links->random);
	pthread_mutex_init(&links->lock, NULL);
	bus__changes_init(links);
	bus__peers_init(links);
	bus__debris_init(links);
	bus__roster_init(links);
	err = bus__loop_start(&links->loop);
	if (err < 0)
		goto free_links;
	*ret_links = links;
	return 0;

free_links:
	bus__roster_fini(links);
	pthread_mutex_destroy(&links->lock);
	bus__free(links);
	return err;
}

/* --- the public calls -------------------------------------------------------------------------------- */

static void
settle(const struct bus_link *link)
{
	if (link->transport->settle != NULL)
		link->transport->settle(link->transport, bus__deadline_ns(SETTLE_MS));
}

/* *ret_said: the error text is set. */
static int
link_new(const char *url, const struct bus_link_config *cfg, bool dials, struct bus_link **ret_link,
    bool *ret_said)
{
	static const struct bus_link_config defaults = {.size = sizeof defaults};
	struct bus__address addr;
	struct bus_link *link;
	int err;

	if (cfg == NULL)
		cfg = &defaults;
	if (url == NULL || cfg->heartbeat_ms > BUS__HEARTBEAT_MAX ||
	    (cfg->heartbeat_ms != 0 && cfg->heartbeat_ms < BUS__HEARTBEAT_MIN) ||
	    cfg->bytes > BUS__MAILBOX_MOST)
		return BUS_E_INVAL;
	err = bus__url_parse(url, &addr);
	if (err < 0)
		return err;
	link = bus__calloc(1, sizeof *link);
	if (link == NULL)
		return BUS_E_NOMEM;
	link->transport = addr.transport;
	link->bytes = cfg->bytes != 0 ? cfg->bytes : DEFAULT_BYTES;
	link->peer_bytes = cfg->peer_bytes != 0 ? cfg->peer_bytes : DEFAULT_PEER_BYTES;
	link->heartbeat_ms = cfg->heartbeat_ms != 0 ? cfg->heartbeat_ms : DEFAULT_HEARTBEAT_MS;
	link->max_peers = cfg->max_peers != 0 ? cfg->max_peers : DEFAULT_PEERS;
	link->relays = cfg->relays != 0;
	link->begin = (struct bus__task){.run = bus__link_begin, .arg = link};
	bus__url_write(&addr, link->url);
	link->dials = dials;
	err = bus__terms_init(&link->terms, cfg, &addr, dials);
	if (err == 0)
		err = link->transport->check(&addr, &link->terms, &link->addr);
	*ret_said = err == BUS_E_NOT_LOOPBACK;
	if (err < 0)
		goto free_link;
	err = bus__guard_init(&link->guard, link->url, cfg, dials);
	if (err == 0 && link->transport->prepare != NULL)
		err = link->transport->prepare(&link->terms);
	*ret_said = err < 0 && err != BUS_E_NOMEM;
	if (err < 0)
		goto free_link;
	*ret_link = link;
	return 0;

free_link:
	bus__link_free(link);
	return err;
}

/* Hands a link to the link thread. Its listener, if any, is not in use yet. */
static int
enlist(struct bus_link *link, struct bus_link **ret_link)
{
	struct bus__links *links = link->links;

	if (!bus__links_enter(links))
		return BUS_E_CLOSED;
	if (atomic_fetch_add_explicit(&links->count, 1, memory_order_relaxed) >= MOST_LINKS) {
		atomic_fetch_sub_explicit(&links->count, 1, memory_order_relaxed);
		bus__links_leave(links);
		return BUS_E_LIMIT;
	}
	link->owned = ret_link != NULL;
	if (link->owned) {
		bus__ref(links->bus);
		*ret_link = link;
	}
	if (link->transport->settle != NULL)
		atomic_store_explicit(&links->settles, true, memory_order_relaxed);
	if (link->dials && bus__terms_leave(&link->terms))
		bus__network_watch(&links->network);
	bus__loop_post(&links->loop, &link->begin);
	bus__links_leave(links);
	return 0;
}

static int
find_links(struct bus *bus, struct bus__links **ret_links)
{
	void *links;
	int err = bus__links(bus, &hooks, make_links, &links);

	if (err == 0)
		*ret_links = links;
	return err;
}

static int
dial(struct bus *bus, const char *url, const struct bus_link_config *cfg,
    struct bus_link **ret_link, bool *ret_said)
{
	struct bus_link *link;
	int err;

	err = bus__enter(bus);
	if (err < 0)
		return err;
	err = link_new(url, cfg, true, &link, ret_said);
	if (err < 0)
		return err;
	err = find_links(bus, &link->links);
	if (err == 0)
		err = enlist(link, ret_link);
	if (err < 0)
		bus__link_free(link);
	return err;
}

static int
fail_scheme(const char *url)
{
	char schemes[120];

	bus__transport_list(schemes, sizeof schemes);
	return bus__fail(BUS_E_SCHEME,
	    BUS__SHOWN
	    ": unknown scheme: this process has %s: use one of them, or first add yours by bus_transport_register()",
	    url, schemes);
}

/* Of an address whose scheme is known. */
static const struct bus__transport *
transport_of(const char *url)
{
	return bus__transport_find(url, (size_t)(strstr(url, "://") - url));
}

/* A call failed; errno is still the system's. */
static int
fail_link(const struct bus *bus, int err, const char *url, const struct bus_link_config *cfg)
{
	const char *hint;

	if (bus == NULL || url == NULL)
		return bus__fail(err, "the bus or the address is NULL");
	if (err == BUS_E_INVAL && cfg != NULL && cfg->bytes > BUS__MAILBOX_MOST)
		return bus__fail(err, BUS__SHOWN ": bytes: %zu: a peer's mailbox has at most 1 GiB",
		    url, cfg->bytes);
	if (err == BUS_E_INVAL && cfg != NULL)
		return bus__fail(err, BUS__SHOWN ": heartbeat_ms: %u: from %d to %d", url,
		    (unsigned)cfg->heartbeat_ms, BUS__HEARTBEAT_MIN, BUS__HEARTBEAT_MAX);
	if (err == BUS_E_LIMIT)
		return bus__fail(err,
		    BUS__SHOWN
		    ": the bus has %d links, the process has no more descriptors or threads, or calls of a registered transport do not return: close some",
		    url, MOST_LINKS);
	if (err == BUS_E_SCHEME)
		return fail_scheme(url);
	if (err == BUS_E_NOTSUP)
		return bus__fail(err, BUS__SHOWN ": %s", url, transport_of(url)->missing);
	if (err == BUS_E_ADDRESS && (hint = transport_of(url)->address_hint) != NULL)
		return bus__fail(err, BUS__SHOWN ": malformed address: %s", url, hint);
	return bus__fail_about(err, url);
}

int
bus_dial(
    struct bus *bus, const char *url, const struct bus_link_config *cfg, struct bus_link **ret_link)
{
	struct bus_link_config room;
	int err = BUS__SIZED_IN(SIZED_LINK_CONFIG, cfg, &room);
	bool said = false;
	int cancel;

	if (err < 0)
		return err;
	cancel = bus__cancel_off(); /* name look-ups */
	err = dial(bus, url, cfg, ret_link, &said);
	bus__cancel_back(cancel);
	if (err < 0 && !said)
		fail_link(bus, err, url, cfg);
	return err < 0 ? err : 0;
}

static int
listen_at(struct bus *bus, const char *url, const struct bus_link_config *cfg,
    struct bus_link **ret_link, bool *ret_said)
{
	struct bus_link *link;
	int err;

	err = bus__enter(bus);
	if (err < 0)
		return err;
	err = link_new(url, cfg, false, &link, ret_said);
	if (err < 0)
		return err;
	err = find_links(bus, &link->links);
	if (err < 0)
		goto free_link;
	err = bus__peer_role(bus, link->url, &link->role);
	link->has_role = err == 1;
	if (err == 1)
		err = bus__link_listen(link);
	if (err == 0)
		err = enlist(link, ret_link);
	if (err == 0)
		return 0;
	if (link->listener != NULL)
		link->listener->ops->free(link->listener);
	settle(link);
	if (link->has_role)
		bus__peer_role_end(bus, link->role);
free_link:
	bus__link_free(link);
	return err;
}

int
bus_listen(
    struct bus *bus, const char *url, const struct bus_link_config *cfg, struct bus_link **ret_link)
{
	struct bus_link_config room;
	int err = BUS__SIZED_IN(SIZED_LINK_CONFIG, cfg, &room);
	bool said = false;
	int cancel;

	if (err < 0)
		return err;
	cancel = bus__cancel_off(); /* name look-ups, lock files, the start of NNG */
	err = listen_at(bus, url, cfg, ret_link, &said);
	bus__cancel_back(cancel);
	if (err < 0 && !said)
		fail_link(bus, err, url, cfg);
	return err < 0 ? err : 0;
}

static bool
is_link_thread(const struct bus__links *links)
{
	return pthread_equal(links->loop.thread, pthread_self());
}

void
bus_link_close(struct bus_link *link)
{
	struct bus__links *links;
	int64_t deadline_ns = bus__deadline_ns(LINK_CLOSE_MS);

	/* A child has no link thread, and NNG's objects belong to its parent. */
	if (link == NULL || bus__enter(link->links->bus) == BUS_E_FORKED)
		return;
	links = link->links;
	link->end = (struct bus__task){.run = bus__link_close, .arg = link};
	if (bus__links_enter(links)) {
		bus__loop_post(&links->loop, &link->end);
		bus__links_leave(links);
	}
	/* Otherwise bus_close() ends it, or has. A callback on the link thread must not wait for its own thread. */
	if ((is_link_thread(links) || !bus__links_await(links, &link->gone, deadline_ns)) &&
	    atomic_exchange_explicit(&link->gone, LINK_LEFT, memory_order_acq_rel) != LINK_GONE)
		return;
	settle(link);
	bus__link_free(link);
	bus__unref(links->bus);
}

static uint64_t
read_count(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int
bus_link_stats(struct bus_link *link, struct bus_link_stats *ret_stats)
{
	struct bus_link_stats stats = {.size = sizeof stats};
	int err;

	if (link == NULL || ret_stats == NULL)
		return bus__answer(BUS_E_INVAL);
	err = bus__sized_check(&bus__sized[SIZED_LINK_STATS], ret_stats->size);
	if (err < 0)
		return err;
	if (bus__enter(link->links->bus) == BUS_E_FORKED)
		return bus__fail_about(BUS_E_FORKED, link->url);
	stats.state = atomic_load_explicit(&link->state, memory_order_relaxed);
	stats.peers = atomic_load_explicit(&link->peers, memory_order_relaxed);
	stats.last_error = atomic_load_explicit(&link->last_error, memory_order_relaxed);
	stats.sent = read_count(&link->sent);
	stats.received = read_count(&link->received);
	stats.lost = read_count(&link->lost);
	stats.lost_by_peers = read_count(&link->lost_by_peers);
	stats.refused = read_count(&link->refused);
	stats.repeated = read_count(&link->repeated);
	stats.late = read_count(&link->late);
	stats.too_far = read_count(&link->too_far);
	for (int i = 0; i < BUS_LINK_END_COUNT; i++)
		stats.ended[i] = read_count(&link->ended[i]);
	bus__sized_write(&bus__sized[SIZED_LINK_STATS], &stats, ret_stats);
	return 0;
}

int
bus_link_url(struct bus_link *link, char *ret_text, size_t cap)
{
	struct bus__address addr;
	char url[BUS__URL_TEXT];
	uint16_t port;
	size_t len;

	if (link == NULL || ret_text == NULL)
		return bus__answer(BUS_E_INVAL);
	if (bus__enter(link->links->bus) == BUS_E_FORKED)
		return bus__fail_about(BUS_E_FORKED, link->url);
	/* The host as given, with the port that the system chose. */
	bus__url_parse(link->url, &addr);
	port = atomic_load_explicit(&link->port, memory_order_relaxed);
	if (port != 0)
		addr.port = port;
	bus__url_write(&addr, url);
	len = strlen(url);
	if (cap <= len)
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": the text needs %zu bytes, and cap is %zu", url, len + 1, cap);
	memcpy(ret_text, url, len + 1);
	return (int)len;
}
