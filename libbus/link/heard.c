/* link/heard.c: the topics that a peer named by numbers. */
#include "link/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/debris.h"

enum { LOOK_EACH = 32 /* topics between two looks at the clock */ };

struct bus__heard_topic *
bus__heard_find(struct bus__session *session, uint16_t number)
{
	struct bus__heard_topic *part = session->heard_topics[number / BUS__TOPICS_PART];

	return part != NULL ? &part[number % BUS__TOPICS_PART] : NULL;
}

#define PART_BYTES bus__held(BUS__TOPICS_PART * sizeof(struct bus__heard_topic))

struct bus__heard_topic *
bus__heard_make(struct bus__session *session, uint16_t number)
{
	struct bus__heard_topic **part = &session->heard_topics[number / BUS__TOPICS_PART];

	if (*part == NULL) {
		*part = bus__calloc(BUS__TOPICS_PART, sizeof **part);
		if (*part == NULL)
			return NULL;
		session->topics_account = session->peer->account;
		bus__account_add(session->topics_account, PART_BYTES);
	}
	return bus__heard_find(session, number);
}

/* The topics that a connection named, to be freed in parts. */
struct topics {
	struct bus__debris debris;
	struct bus__heard_topic *parts[BUS__TOPICS_PARTS];
	struct bus__account *account;
	unsigned part, at;
};

/* false: time ran out before the end. */
static bool
clear_parts(struct bus__links *links, struct topics *topics, int64_t until_ns)
{
	for (; topics->part < BUS__TOPICS_PARTS; topics->part++, topics->at = 0) {
		struct bus__heard_topic *part = topics->parts[topics->part];

		if (part == NULL)
			continue;
		for (; topics->at < BUS__TOPICS_PART; topics->at++) {
			if (topics->at % LOOK_EACH == LOOK_EACH - 1 && bus__now_ns() >= until_ns) {
				bus__peer_unname(links->bus, &part[topics->at++].named);
				return false;
			}
			bus__peer_unname(links->bus, &part[topics->at].named);
		}
		bus__account_sub(topics->account, PART_BYTES);
		bus__free(part);
	}
	return true;
}

static bool
clear_topics(struct bus__links *links, struct bus__debris *debris, int64_t until_ns)
{
	if (!clear_parts(links, (struct topics *)debris, until_ns))
		return false;
	bus__free(debris);
	return true;
}

void
bus__session_forget_topics(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct topics here = {.debris.clear = clear_topics, .account = session->topics_account};
	struct topics *topics;

	if (session->topics_account == NULL)
		return;
	memcpy(here.parts, session->heard_topics, sizeof here.parts);
	topics = bus__malloc(sizeof *topics);
	if (topics == NULL) {
		clear_parts(links, &here, INT64_MAX);
		return;
	}
	*topics = here;
	bus__debris_add(links, &topics->debris);
}
