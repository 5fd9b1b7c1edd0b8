/* base/offer.h: what becomes of a retained value that a link brings, beside what the topic has here. Pure.
 *
 * The larger version wins (version.h). But a version says how often a topic was changed only as far as its maker knew: a bus that
 * begins anew counts from 1 again, one that has not asked for the topic does not hear of others' changes, and a bus does not pass on what
 * others changed. So a change that comes while the two are linked counts as one behind ours, under our number and its maker's
 * id, and so does one from before their first connection. docs/design/0007-values.md has the reasons. */
#ifndef BUS_BASE_OFFER_H
#define BUS_BASE_OFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/version.h"

/* What the link knows of the value. */
struct bus__offer {
	struct bus__version version;
	uint8_t peer[BUS__BUS_ID]; /* that sent it */
	bool is_kept;              /* and not a change of now */
	bool is_before;            /* from before the connection */
	bool is_raise;             /* only if the topic has ours */
	bool is_first;             /* the two buses have had no connection before */
	bool
	    is_repeated; /* the change was delivered here already, when it came another way: its value counts, and is no news */
	uint64_t since;  /* where the bus's changes, or its log, were when the connection began */
	/* What is to follow from it: the peer is sent our version, which has another number than its own; or all peers are,
	 * since a change made here has another number now. */
	bool tell_peer, tell_all;
};

/* What the topic has. */
struct bus__standing {
	struct bus__version version;
	uint64_t theirs; /* its number where it was made, which may be smaller; 0: unknown */
	bool is_recent;  /* made since the connection began */
	int content;     /* below, at or above 0, as memcmp(): what is offered beside this one's */
};

/* A value as bytes. */
struct bus__content {
	const void *data, *headers;
	size_t len, headers_len;
	int type;
};

/* As memcmp(): an order that is the same on all buses, in which a deletion comes first. */
int bus__content_compare(const struct bus__content *left, const struct bus__content *right);

enum bus__verdict {
	BUS__OFFER_NEWER,  /* it is the value now */
	BUS__OFFER_CHANGE, /* so it is, by the number behind ours */
	BUS__OFFER_OLDER,
	BUS__OFFER_SAME,   /* we have it */
	BUS__OFFER_RAISES, /* it is ours, under a larger number */
	BUS__OFFER_OURS    /* ours stays, and gets the number behind that one */
};

/* Whether `content` is asked for. own: the id of this bus. */
bool bus__offer_asks(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID]);

/* Judges, and sets what is to follow. */
enum bus__verdict bus__offer_judge(
    struct bus__offer *offer, const struct bus__standing *standing, const uint8_t own[BUS__BUS_ID]);

/* The version by which the value stands here from now on, and its number where it was made. OFFER_NEWER, OFFER_CHANGE,
 * OFFER_RAISES and OFFER_OURS only. */
struct bus__version bus__offer_version(enum bus__verdict verdict, const struct bus__offer *offer,
    const struct bus__standing *standing, uint64_t *ret_theirs);

#endif
