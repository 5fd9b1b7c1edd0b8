#include "link/debris.h"

#include "base/clock.h"
#include "link/link.h"

_Atomic int64_t bus__round_ns = INT64_C(1000000);

static void
run(void *arg)
{
	struct bus__links *links = arg;
	struct bus__debris *debris = links->debris;

	if (debris == NULL)
		return;
	links->debris = debris->next;
	if (!debris->clear(links, debris, bus__now_ns() + bus__round())) {
		debris->next = links->debris;
		links->debris = debris;
	}
	if (links->debris != NULL)
		bus__loop_post(&links->loop, &links->debris_task);
}

void
bus__debris_init(struct bus__links *links)
{
	links->debris_task = (struct bus__task){.run = run, .arg = links};
}

void
bus__debris_add(struct bus__links *links, struct bus__debris *debris)
{
	int64_t until = links->closing ? INT64_MAX : bus__now_ns() + bus__round();
	struct bus__debris **end = &links->debris;

	if (debris->clear(links, debris, until))
		return;
	while (*end != NULL)
		end = &(*end)->next;
	debris->next = NULL;
	*end = debris;
	bus__loop_post(&links->loop, &links->debris_task);
}

void
bus__debris_finish(struct bus__links *links, const struct bus_link *link)
{
	struct bus__debris **at = &links->debris;

	while (*at != NULL) {
		struct bus__debris *debris = *at;

		if (link != NULL && debris->link != link) {
			at = &debris->next;
			continue;
		}
		*at = debris->next;
		debris->clear(links, debris, INT64_MAX);
	}
}
