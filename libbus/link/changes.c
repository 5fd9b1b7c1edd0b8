#include "link/changes.h"

#include <string.h>

#include "base/mem.h"
#include "link/session.h"

/* Numbered, so that a connection that has just told the peer all filters skips older changes: a late
 * "unwanted, wanted again" would open a gap. */
struct bus__change {
	struct bus__change *next;
	uint64_t number;
	bool wanted;
	char filter[];
};

static struct bus__change *
take(struct bus__links *links, bool *ret_lost)
{
	struct bus__change *list;

	pthread_mutex_lock(&links->lock);
	list = links->changes;
	links->changes = NULL;
	links->last_change = &links->changes;
	*ret_lost = links->changes_lost;
	links->changes_lost = false;
	pthread_mutex_unlock(&links->lock);
	return list;
}

static void
free_list(struct bus__change *list)
{
	while (list != NULL) {
		struct bus__change *next = list->next;

		bus__free(list);
		list = next;
	}
}

static int
tell(struct bus__session *session, const struct bus__change *list, bool lost)
{
	int err = lost ? BUS_E_NOMEM : 0;

	if (session->stage != BUS__STAGE_LIVE)
		return 0;
	for (; err == 0 && list != NULL; list = list->next)
		err = bus__session_tell_change(session, list->number, list->filter, list->wanted);
	return err == 0 ? bus__session_send(session) : err;
}

static void
apply(void *arg)
{
	struct bus__links *links = arg;
	struct bus__session *next;
	struct bus__change *list;
	bool lost;
	int err;

	list = take(links, &lost);
	for (struct bus_link *link = links->first; link != NULL; link = link->next)
		for (struct bus__session *s = link->sessions; s != NULL; s = next) {
			next = s->next;
			err = tell(s, list, lost);
			if (err < 0)
				bus__session_end(s, err);
		}
	free_list(list);
}

void
bus__changes_init(struct bus__links *links)
{
	links->last_change = &links->changes;
	links->change_task = (struct bus__task){.run = apply, .arg = links};
}

void
bus__changes_add(void *arg, const char *filter, bool wanted)
{
	struct bus__links *links = arg;
	size_t size = strlen(filter) + 1;
	struct bus__change *change = bus__malloc(sizeof *change + size);

	pthread_mutex_lock(&links->lock);
	links->change_count++;
	if (change != NULL) {
		*change = (struct bus__change){.number = links->change_count, .wanted = wanted};
		memcpy(change->filter, filter, size);
		*links->last_change = change;
		links->last_change = &change->next;
	} else {
		links->changes_lost = true;
	}
	pthread_mutex_unlock(&links->lock);
	bus__loop_post(&links->loop, &links->change_task);
}

void
bus__changes_clear(struct bus__links *links)
{
	bool lost;

	free_list(take(links, &lost));
}
