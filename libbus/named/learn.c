/* named/learn.c: a mailbox learns what the name in a record stands for: a route of its own, or nothing. The bus knows; the reader's
 * tables (heard.h) remember its answers. */
#include <pthread.h>
#include <string.h>

#include "base/siphash.h"
#include "bus/bus_internal.h"
#include "bus/topic.h"
#include "named/reader.h"
#include "named/reader_parts.h"
#include "topic/name.h"

struct wanting {
	const struct bus_mailbox *mbox; /* NULL: any */
	bool found;
};

static void
look_whether_wanted(void *arg, struct node *filter)
{
	struct wanting *w = arg;

	for (const struct bus_sub *sub = filter->subs; sub != NULL && !w->found;
	     sub = sub->next_at_node)
		w->found = w->mbox == NULL || sub->mbox == w->mbox;
}

bool
bus__reader_is_name(const char *name, size_t len)
{
	size_t its;
	int err = bus__topic_check(name, &its);

	if (err == BUS_E_TOPIC_RESERVED && bus__is_logged(name))
		return strlen(name) == len;
	return err == 0 && its == len;
}

int
bus__reader_topic(struct bus *bus, const struct bus_mailbox *m, const char *name, size_t len,
    struct topic **ret_topic)
{
	struct wanting wanting = {.mbox = m};

	*ret_topic = NULL;
	if (!bus__reader_is_name(name, len))
		return 0; /* no process of this library made that record */
	bus__trie_match_topic(&bus->trie, name, look_whether_wanted, &wanting);
	return wanting.found ? bus__topic_make(bus, name, len, ret_topic) : 0;
}

int
bus__reader_route(struct bus_mailbox *m, const char *name, size_t len, struct route **ret_route)
{
	struct topic *topic;
	int err = bus__reader_topic(m->bus, m, name, len, &topic);

	*ret_route = err == 0 && topic != NULL ? bus__topic_route(topic, m) : NULL;
	return err;
}

bool
bus__reader_learn(struct bus_mailbox *m, const struct heard_name *unknown)
{
	struct reader *r = m->reader;
	struct route *route;
	int err;

	bus__lock(m->bus);
	err = bus__reader_route(m, unknown->name, unknown->len, &route);
	pthread_mutex_lock(&r->lock);
	if (err == 0)
		err = bus__heard_put_name(
		    &r->heard, bus__siphash(m->bus->key, unknown->name, unknown->len), route);
	if (err < 0 && bus__log_next(&r->cursor) != NULL)
		r->cursor.lost++;
	pthread_mutex_unlock(&r->lock);
	bus__unlock(m->bus);
	return err == 0;
}
