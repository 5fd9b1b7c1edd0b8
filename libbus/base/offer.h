/* base/offer.h: decides between a retained value that a link brings and the topic's value here. Pure.
 *
 * The larger version wins (version.h). But a version counts a topic's changes only as far as its maker knew them: a restarted bus
 * counts from 1 again, a bus that has not asked for the topic does not see others' changes, and a bus does not pass on others'
 * changes. So a change that arrives while the two are linked counts as one after ours, under our number plus one and its maker's
 * id, and so does a change from before their first connection. docs/design/0007-values.md has the reasons. */
#ifndef BUS_BASE_OFFER_H
#define BUS_BASE_OFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/version.h"

/* The link's knowledge of the value. */
struct bus__offer {
	struct bus__version version;
	uint8_t peer[BUS__BUS_ID]; /* the sender */
	bool is_kept;              /* a kept value, not a live change */
	bool is_before;            /* older than the connection */
	bool is_raise;             /* use it only if the topic has ours */
	bool is_first;             /* the first connection of the two buses */
	bool
	    /* the change was delivered here already, over another connection: its value counts, but is not delivered */
	    is_repeated;
	uint64_t since; /* the bus's changes, or its log's tail, at the begin of the connection */
	/* What the caller must do: send the peer our version, whose number differs from the peer's; or send it to all peers,
	 * since a change made here has a new number. */
	bool tell_peer, tell_all;
};

/* The topic's value. */
struct bus__standing {
	struct bus__version version;
	uint64_t theirs; /* its number where it was made, perhaps smaller; 0: unknown */
	bool is_recent;  /* made since the connection began */
	int content; /* the offered bytes against this value's: below, at or above 0, as memcmp() */
};

/* A value as bytes. */
struct bus__content {
	const void *data, *headers;
	size_t len, headers_len;
	int type;
};

/* As memcmp(): the same order on all buses, with a deletion first. */
int bus__content_compare(const struct bus__content *left, const struct bus__content *right);

enum bus__verdict {
	BUS__OFFER_NEWER,  /* it becomes the value */
	BUS__OFFER_CHANGE, /* the same, under the number after ours */
	BUS__OFFER_OLDER,
	BUS__OFFER_SAME,   /* the topic has it already */
	BUS__OFFER_RAISES, /* it is ours, under a larger number */
	BUS__OFFER_OURS    /* ours stays, and gets the number after the offered one */
};

/* Whether the verdict needs `content`. own: the id of this bus. */
bool bus__offer_asks(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID]);

/* Decides, and sets tell_peer and tell_all. */
enum bus__verdict bus__offer_judge(
    struct bus__offer *offer, const struct bus__standing *standing, const uint8_t own[BUS__BUS_ID]);

/* The version of the value here from now on, and its number where it was made. For OFFER_NEWER, OFFER_CHANGE,
 * OFFER_RAISES and OFFER_OURS only. */
struct bus__version bus__offer_version(enum bus__verdict verdict, const struct bus__offer *offer,
    const struct bus__standing *standing, uint64_t *ret_theirs);

#endif
