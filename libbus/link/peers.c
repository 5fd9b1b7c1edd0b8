#include "link/peers.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "link/hub.h"
#include "link/session.h"

enum { REMEMBERED = 1024, LEFT_MOST = 1024, MET_FIRST = 8, MET_MOST = 1024 };
#define REMEMBERED_NS (INT64_C(600) * 1000000000)

bool
bus__identity_equal(const struct bus__identity *a, const struct bus__identity *b)
{
	return memcmp(a->id, b->id, sizeof a->id) == 0 && strcmp(a->name, b->name) == 0;
}

static struct bus__peer *
find(struct bus__links *links, const struct bus__identity *identity)
{
	struct bus__peer *peer = links->peers;

	while (peer != NULL && !bus__identity_equal(&peer->identity, identity))
		peer = peer->next;
	return peer;
}

/* --- accounts ------------------------------------------------------------------------------------------- */

/* An account is over its bound; has the link thread find it. */
static void
call_over(void *arg)
{
	struct bus__links *links = arg;

	bus__loop_post(&links->loop, &links->over_task);
}

static bool
is_empty(const struct bus__account *account)
{
	return atomic_load_explicit(&account->refs, memory_order_acquire) == 1;
}

static void
free_left(struct bus__left **at)
{
	struct bus__left *left = *at;

	*at = left->next;
	bus__account_unref(left->account);
	bus__free(left);
}

/* Takes the account that the peer left behind, NULL: none. Drops empty ones, and the oldest over the limit. */
static struct bus__account *
take_left(struct bus__links *links, const struct bus__identity *identity)
{
	struct bus__account *account = NULL;
	struct bus__left **at = &links->left;
	unsigned count = 0;

	while (*at != NULL) {
		struct bus__left *left = *at;

		if (bus__identity_equal(&left->identity, identity)) {
			account = left->account;
			*at = left->next;
			bus__free(left);
		} else if (is_empty(left->account) || ++count >= LEFT_MOST) {
			free_left(at);
		} else {
			at = &left->next;
		}
	}
	return account;
}

static int
open_account(struct bus__peer *peer, struct bus_link *link)
{
	struct bus__links *links = link->links;

	if (peer->account == NULL)
		peer->account = take_left(links, &peer->identity);
	if (peer->account == NULL)
		peer->account = bus__account_open(link->peer_bytes, call_over, links);
	if (peer->account == NULL)
		return BUS_E_NOMEM;
	atomic_store_explicit(&peer->account->most, link->peer_bytes, memory_order_relaxed);
	return 0;
}

/* Without memory the account is not found again, and the peer begins an empty one on its return. */
static void
leave_account(struct bus__links *links, struct bus__peer *peer)
{
	struct bus__left *left = NULL;

	if (peer->account != NULL && !is_empty(peer->account))
		left = bus__calloc(1, sizeof *left);
	if (left == NULL) {
		bus__account_unref(peer->account);
		return;
	}
	left->identity = peer->identity;
	left->account = peer->account;
	left->next = links->left;
	links->left = left;
}

void
bus__peers_fini(struct bus__links *links)
{
	while (links->left != NULL)
		free_left(&links->left);
	bus__free(links->met);
	bus__seen_free(links->seen);
	bus__seen_free(links->seen_losses);
}

/* --- buses that were met ------------------------------------------------------------------------------------ */

static bool
has_met(const struct bus__links *links, const uint8_t *id)
{
	uint32_t count = links->met_count < links->met_cap ? links->met_count : links->met_cap;

	for (uint32_t i = 0; i < count; i++)
		if (memcmp(links->met[i], id, BUS__BUS_ID) == 0)
			return true;
	return false;
}

void
bus__peers_met(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct bus__peer *peer = session->peer;
	uint32_t cap = links->met_cap > 0 ? 2 * links->met_cap : MET_FIRST;
	void *met;

	if (peer->has_met)
		return;
	peer->has_met = true;
	/* Without memory it replaces an older one, or is forgotten with the peer. */
	if (links->met_count == links->met_cap && cap <= MET_MOST) {
		met = bus__calloc(cap, sizeof *links->met);
		if (met != NULL && links->met_cap > 0)
			memcpy(met, links->met, links->met_cap * sizeof *links->met);
		if (met != NULL) {
			bus__free(links->met);
			links->met = met;
			links->met_cap = cap;
		}
	}
	if (links->met_cap > 0)
		memcpy(links->met[links->met_count++ % links->met_cap], peer->identity.id,
		    BUS__BUS_ID);
}

/* --- remembered peers ----------------------------------------------------------------------------------- */

/* Adds the peer's losses that its sequence does not count yet. */
static void
count_lost(struct bus__peer *peer)
{
	uint64_t lost = bus__peer_lost(peer->mbox), parked = bus__peer_lost_parked(peer->mbox);
	uint64_t more = lost - peer->told_lost + parked - peer->told_parked;

	peer->told_lost = lost;
	peer->told_parked = parked;
	peer->out.next += more;
	peer->out.lost += more;
	peer->unsent += more;
	bus__count(&peer->link->lost, more);
}

static bool
clear(struct bus__links *links, struct bus__debris *debris, int64_t until_ns)
{
	struct bus__peer *peer = (struct bus__peer *)debris;
	uint64_t lost;

	(void)links;
	if (peer->mbox != NULL) {
		if (!bus__filters_clear(&peer->filters, until_ns))
			return false;
		lost = bus__peer_close(peer->mbox);
		bus__count(&peer->link->lost, lost - peer->told_lost - peer->told_parked);
	}
	bus__free(peer);
	return true;
}

static void
forget(struct bus__links *links, struct bus__peer *peer)
{
	struct bus__peer **at = &links->peers;

	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	leave_account(links, peer);
	peer->debris.link = peer->link;
	peer->debris.clear = clear;
	bus__debris_add(links, &peer->debris);
}

/* Ends the connections of the peers whose account is over its bound, or forgets those peers. */
static void
end_over(void *arg)
{
	struct bus__links *links = arg;
	struct bus__peer *peer = links->peers;

	while (peer != NULL) {
		if (!bus__account_is_over(peer->account)) {
			peer = peer->next;
			continue;
		}
		if (peer->session != NULL)
			bus__session_end(peer->session, BUS_E_LIMIT);
		else
			forget(links, peer);
		peer = links->peers; /* other peers may be gone with it */
	}
}

/* Forgets the peers that are due, and those over the limit that broke first; sets the timer for the next. */
static void
forget_old(void *arg)
{
	struct bus__links *links = arg;
	int64_t now = bus__now_ns();
	struct bus__peer *oldest;
	unsigned broken;

	do {
		broken = 0;
		oldest = NULL;
		for (struct bus__peer *peer = links->peers; peer != NULL; peer = peer->next) {
			broken += peer->session == NULL;
			if (peer->session == NULL &&
			    (oldest == NULL || peer->forget_ns < oldest->forget_ns))
				oldest = peer;
		}
		if (oldest == NULL || (broken <= REMEMBERED && oldest->forget_ns > now))
			break;
		forget(links, oldest);
	} while (true);
	if (oldest != NULL)
		bus__timer_set(&links->loop, &links->forget_timer, oldest->forget_ns);
	else
		bus__timer_stop(&links->loop, &links->forget_timer);
}

void
bus__peers_init(struct bus__links *links)
{
	links->forget_timer = (struct bus__timer){.fire = forget_old, .arg = links};
	links->over_task = (struct bus__task){.run = end_over, .arg = links};
}

int
bus__peers_join(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct bus__peer *peer = find(links, &session->identity);

	session->numbered = bus__hub_numbers(session);
	/* Its routes decide what its mailbox gets. A peer of another kind is another peer. */
	if (peer != NULL &&
	    (peer->numbered != session->numbered || peer->fed != session->link->relays)) {
		forget(links, peer);
		peer = NULL;
	}
	if (peer == NULL) {
		peer = bus__calloc(1, sizeof *peer);
		if (peer == NULL)
			return BUS_E_NOMEM;
		peer->identity = session->identity;
		peer->numbered = session->numbered;
		peer->fed = session->link->relays;
		peer->via = peer->fed ? bus__hub_new_via(links) : 0;
		peer->has_met = has_met(links, peer->identity.id);
		peer->next = links->peers;
		links->peers = peer;
	}
	peer->session = session;
	peer->link = session->link;
	session->peer = peer;
	session->may_relay = bus__hub_is_trusted(session);
	return open_account(peer, session->link);
}

void
bus__peers_leave(struct bus__session *session, bool for_good)
{
	struct bus__links *links = session->link->links;
	struct bus__peer *peer = session->peer;

	if (peer == NULL)
		return;
	session->peer = NULL;
	peer->session = NULL;
	/* Also if the peer is forgotten: its filters end one by one, some perhaps only in a later round, and until then a
	 * publisher would wake a freed session. */
	if (session->mbox != NULL)
		bus__peer_park(peer->mbox);
	if (for_good || peer->mbox == NULL) {
		forget(links, peer);
		return;
	}
	if (session->mbox != NULL)
		count_lost(
		    peer); /* waiting messages; the rest when the peer reconnects or is forgotten */
	peer->has_waited = true;
	peer->forget_ns = bus__now_ns() + REMEMBERED_NS;
	forget_old(links);
}

/* Corrects the counters: the peer did not receive all that was counted as sent, or received some that was counted as lost. */
static int
settle(struct bus__peer *peer, const struct bus__resume *resume)
{
	struct bus__sequence *out = &peer->out;
	uint64_t sent = out->next - out->lost, received = resume->next - resume->lost;

	if (resume->next > out->next)
		return BUS_E_PROTOCOL;
	/* Works in both directions: the counters wrap. */
	bus__count(&peer->link->sent, received - sent);
	bus__count(&peer->link->lost, sent - received);
	out->lost += sent - received;
	return 0;
}

/* Whether the peer expects a message of the present sequence: the next one, or the first if it does not know the sequence. */
static bool
goes_on_with(const struct bus__peer *peer, const struct bus__resume *resume)
{
	return peer->out.id == resume->id || (resume->has_waited && !peer->is_known);
}

/* Begins a sequence, which counts the messages that the peer certainly missed. */
static void
begin_sequence(struct bus__peer *peer, uint64_t unsent)
{
	uint64_t id = 0;

	while (id == 0)
		bus__random(&id, sizeof id);
	peer->out = (struct bus__sequence){.id = id, .next = unsent, .lost = unsent};
}

static int
open_mailbox(struct bus__peer *peer, struct bus_link *link, void (*wake)(void *arg), void *session)
{
	struct far far = {.via = peer->via, .numbered = peer->numbered, .fed = peer->fed};
	int err = bus__peer_open(
	    link->links->bus, peer->account, link->bytes, wake, session, &peer->mbox);

	memcpy(far.id, peer->identity.id, sizeof far.id);
	if (err == 0)
		bus__peer_know(peer->mbox, &far);
	return err;
}

int
bus__peers_resume(struct bus__session *session, const struct bus__resume *resume,
    void (*wake)(void *arg), struct bus__start *ret_start)
{
	struct bus__peer *peer = session->peer;
	struct bus_link *link = session->link;
	bool was_here = peer->mbox != NULL, goes_on = goes_on_with(peer, resume);
	uint64_t unsent;
	int err = 0;

	if (was_here)
		count_lost(peer);
	unsent = peer->unsent;
	if (was_here && goes_on)
		err = settle(peer, resume);
	if (err == 0 && !was_here)
		err = open_mailbox(peer, link, wake, session);
	else if (err == 0)
		err = bus__peer_resume(peer->mbox, wake, session);
	bus__filters_begin_renewal(&peer->filters);
	if (err < 0)
		return err;
	peer->is_known = goes_on && resume->id != 0;
	/* START marks the successor of a forgotten sequence until the peer names it. */
	peer->is_restarted = !peer->is_known && (peer->is_restarted || !goes_on);
	if (!goes_on || peer->out.id == 0)
		begin_sequence(peer, unsent);
	peer->unsent = 0;
	session->is_first = !peer->has_met && !resume->has_met;
	bus__peer_renew_values(peer->mbox);
	session->mbox = peer->mbox;
	session->draining = was_here;
	*ret_start = (struct bus__start){.id = peer->out.id,
	    .next = peer->out.next,
	    .unsent = unsent,
	    .is_restarted = peer->is_restarted};
	return 0;
}

int
bus__peers_start(struct bus__session *session, const struct bus__start *start, uint64_t *ret_gap,
    bool *ret_at_least)
{
	struct bus__peer *peer = session->peer;
	struct bus__sequence *in = &peer->in;
	struct bus_link *link = session->link;

	if (in->id == 0 && peer->has_waited)
		in->id = start->id; /* the sequence that was to begin in the last connection */
	if (in->id == start->id) {
		if (start->next < in->next)
			return BUS_E_PROTOCOL;
		*ret_gap = start->next - in->next;
		*ret_at_least = start->is_restarted && in->next == 0;
		in->lost += *ret_gap;
	} else {
		*ret_gap = start->unsent;
		/* Also if this link led to another bus before, or to this one until its goodbye. */
		*ret_at_least = start->is_restarted || in->id != 0 || link->has_joined;
		*in = (struct bus__sequence){.id = start->id, .lost = start->next};
	}
	in->next = start->next;
	link->has_joined = link->dials;
	return 0;
}

void
bus__peers_forget_link(struct bus_link *link)
{
	struct bus__peer *next;

	for (struct bus__peer *peer = link->links->peers; peer != NULL; peer = next) {
		next = peer->next;
		if (peer->link == link && peer->session == NULL)
			forget(link->links, peer);
	}
	bus__debris_finish(link->links, link);
}

void
bus__peers_forget_all(struct bus__links *links)
{
	struct bus__peer *next;

	for (struct bus__peer *peer = links->peers; peer != NULL; peer = next) {
		next = peer->next;
		if (peer->session == NULL)
			forget(links, peer);
	}
	bus__debris_finish(links, NULL);
	bus__timer_stop(&links->loop, &links->forget_timer);
}
