/* bus/keep.c: bus_keep(), and the filters that set how much a topic keeps. */
#include "bus/keep.h"

#include <string.h>

#include "base/mem.h"
#include "base/sized.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "topic/name.h"
#include "topic/near.h"

#define MOST_KEPT     10000
#define MOST_BYTES    (UINT64_C(1) << 30)
#define DEFAULT_BYTES (UINT64_C(1) << 20)
#define MOST_FILTERS  256 /* each new topic is compared with all */

struct applying {
	struct bus *bus;
	const struct keep_filter *filter;
	int err;
};

static void
raise_bounds(struct history *h, const struct keep_filter *f, bool first)
{
	if (first)
		h->most_bytes = 0; /* unbounded so far, for a single value */
	if (h->most < f->most)
		h->most = f->most;
	if (h->most_bytes < f->most_bytes)
		h->most_bytes = f->most_bytes;
}

/* Raises a topic's limits to those of a filter. */
static void
apply(void *arg, struct topic *topic)
{
	struct applying *a = arg;
	bool kept_all;
	int err;

	pthread_mutex_lock(bus__keep_lock(a->bus, topic));
	kept_all = bus__keeps(topic);
	err = bus__history_make(topic);
	if (err == 0)
		err = bus__topic_keep_all(a->bus, topic);
	if (err == 0)
		raise_bounds(topic->history, a->filter, !kept_all);
	else
		a->err = err;
	pthread_mutex_unlock(bus__keep_lock(a->bus, topic));
}

int
bus__keep_new_topic(struct bus *bus, struct topic *topic)
{
	struct applying a = {bus, bus->keep_filters, 0};

	for (; a.filter != NULL && a.err == 0; a.filter = a.filter->next)
		if (bus__near(a.filter->filter, topic->name) == NEAR_MATCH)
			apply(&a, topic);
	return a.err;
}

void
bus__keep_filters_free(struct bus *bus)
{
	while (bus->keep_filters != NULL) {
		struct keep_filter *filter = bus->keep_filters;

		bus->keep_filters = filter->next;
		bus__free(filter);
	}
}

/* Finds the filter, or lists it. Bus lock. */
static int
make_filter(struct bus *bus, const char *text, size_t len, struct keep_filter **ret_filter)
{
	struct keep_filter **end = &bus->keep_filters;
	unsigned count = 0;

	for (; *end != NULL; end = &(*end)->next, count++)
		if (strcmp((*end)->filter, text) == 0)
			break;
	if (*end == NULL && count == MOST_FILTERS)
		return BUS_E_LIMIT;
	if (*end == NULL) {
		*end = bus__calloc(1, sizeof **end + len + 1);
		if (*end == NULL)
			return BUS_E_NOMEM;
		memcpy((*end)->filter, text, len);
	}
	*ret_filter = *end;
	return 0;
}

/* Bus lock. */
static int
keep(struct bus *bus, const char *text, size_t len, uint32_t most, uint64_t most_bytes)
{
	struct applying a = {.bus = bus};
	struct keep_filter *filter;
	int err = make_filter(bus, text, len, &filter);

	if (err < 0)
		return err;
	if (filter->most < most)
		filter->most = most;
	if (filter->most_bytes < most_bytes)
		filter->most_bytes = most_bytes;
	a.filter = filter;
	bus__trie_match_filter(&bus->trie, text, apply, &a);
	return a.err;
}

int
bus_keep(struct bus *bus, const char *filter, const struct bus_keep_config *cfg)
{
	struct bus_keep_config room;
	uint64_t most_bytes;
	uint32_t most;
	size_t len;
	int err = BUS__SIZED_IN(SIZED_KEEP_CONFIG, cfg, &room);

	if (err < 0)
		return err;
	most = cfg != NULL && cfg->last != 0 ? cfg->last : 1;
	most_bytes = cfg != NULL && cfg->max_bytes != 0 ? cfg->max_bytes : DEFAULT_BYTES;
	err = bus__enter(bus);
	if (err == 0)
		err = bus__filter_check(filter, &len);
	if (err < 0)
		return bus__fail_publish(bus, err, filter, 0);
	if (!bus->kind->has_history)
		return bus__fail(BUS_E_NOTSUP,
		    BUS__SHOWN
		    ": bus_keep() is for a private bus; the log of a named bus keeps its past: see from",
		    filter);
	if (most > MOST_KEPT)
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": last: %u: a topic keeps at most %u messages", filter,
		    (unsigned)most, (unsigned)MOST_KEPT);
	if (most_bytes > MOST_BYTES)
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": max_bytes: %llu: a topic keeps at most %llu bytes", filter,
		    (unsigned long long)most_bytes, (unsigned long long)MOST_BYTES);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = keep(bus, filter, len, most, most_bytes);
	bus__unlock(bus);
	if (err == BUS_E_LIMIT)
		return bus__fail(err,
		    BUS__SHOWN ": %u filters keep already, which is all that fit: use a wider one",
		    filter, (unsigned)MOST_FILTERS);
	return err < 0 ? bus__fail_name(err, filter) : 0;
}
