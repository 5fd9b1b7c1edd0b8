#include "base/offer.h"

static bool
is_of(const struct bus__version *version, const uint8_t id[BUS__BUS_ID])
{
	return version->changes > 0 && memcmp(version->bus, id, BUS__BUS_ID) == 0;
}

/* Whether it is our change, which the peer has under another number. */
static bool
comes_back(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	return is_of(&offer->version, own) && is_of(&standing->version, own);
}

/* Whether both the offer and the topic's value are the peer's. */
static bool
goes_on(const struct bus__offer *offer, const struct bus__standing *standing)
{
	return is_of(&offer->version, offer->peer) && is_of(&standing->version, offer->peer);
}

bool
bus__offer_asks(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	return comes_back(offer, standing, own) || goes_on(offer, standing) ||
	       bus__version_compare(&offer->version, &standing->version) == 0;
}

static int
compare(const void *left, size_t left_len, const void *right, size_t right_len)
{
	if (left_len != right_len)
		return left_len < right_len ? -1 : 1;
	return left_len > 0 ? memcmp(left, right, left_len) : 0;
}

int
bus__content_compare(const struct bus__content *left, const struct bus__content *right)
{
	int order = compare(left->data, left->len, right->data, right->len);

	if (order == 0)
		order =
		    compare(left->headers, left->headers_len, right->headers, right->headers_len);
	return order != 0 ? order : left->type - right->type;
}

/* One of several changes of the peer, which arrive in order. */
static enum bus__verdict
judge_next(const struct bus__offer *offer, const struct bus__standing *standing, int order)
{
	uint64_t number = offer->version.changes;

	if (number <= standing->theirs)
		return number == standing->theirs ? BUS__OFFER_SAME : BUS__OFFER_OLDER;
	/* Same bytes: another bus renumbered it. Other bytes: the peer's next change, made before it heard of the renumbering. */
	if (order <= 0 && (offer->is_kept || offer->is_before) && standing->content == 0)
		return BUS__OFFER_SAME;
	return order > 0 ? BUS__OFFER_NEWER : BUS__OFFER_CHANGE;
}

static enum bus__verdict
judge(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	const struct bus__version *has = &standing->version;
	int order = bus__version_compare(&offer->version, has);
	bool is_ours = is_of(has, own), by_maker = is_of(&offer->version, offer->peer);

	if (offer->is_raise && !comes_back(offer, standing, own))
		return BUS__OFFER_OLDER;
	if (goes_on(offer, standing))
		return judge_next(offer, standing, order);
	/* Made elsewhere, and renumbered at two places. */
	if (order == 0)
		return standing->content > 0 && !is_ours ? BUS__OFFER_NEWER : BUS__OFFER_SAME;
	/* This bus knows its own last change best. */
	if (comes_back(offer, standing, own) && order > 0)
		return standing->content == 0 ? BUS__OFFER_RAISES : BUS__OFFER_OURS;
	/* A change made here before the peer's values arrived, and without knowledge of them. */
	if (order > 0 && is_ours && offer->is_before &&
	    (standing->is_recent || (offer->is_first && !by_maker)))
		return BUS__OFFER_OURS;
	if (order > 0)
		return BUS__OFFER_NEWER;
	/* The same from the other side; or a live change. */
	if (by_maker && (offer->is_before ? offer->is_first && !is_ours : !offer->is_kept))
		return BUS__OFFER_CHANGE;
	return BUS__OFFER_OLDER;
}

enum bus__verdict
bus__offer_judge(
    struct bus__offer *offer, const struct bus__standing *standing, const uint8_t own[BUS__BUS_ID])
{
	enum bus__verdict verdict = judge(offer, standing, own);

	offer->tell_peer = verdict == BUS__OFFER_CHANGE ||
			   (verdict == BUS__OFFER_SAME && goes_on(offer, standing) &&
			       offer->version.changes > standing->theirs &&
			       offer->version.changes < standing->version.changes);
	/* Its maker sends a change to all peers, also a returning one that replaces another bus's value. */
	offer->tell_all =
	    verdict == BUS__OFFER_RAISES || verdict == BUS__OFFER_OURS ||
	    (verdict == BUS__OFFER_NEWER && (offer->is_repeated || is_of(&offer->version, own)));
	return verdict;
}

struct bus__version
bus__offer_version(enum bus__verdict verdict, const struct bus__offer *offer,
    const struct bus__standing *standing, uint64_t *ret_theirs)
{
	struct bus__version version = offer->version;

	*ret_theirs = is_of(&version, offer->peer) ? version.changes : 0;
	if (verdict == BUS__OFFER_CHANGE)
		version.changes = standing->version.changes;
	if (verdict == BUS__OFFER_OURS)
		memcpy(version.bus, standing->version.bus, sizeof version.bus);
	if (verdict == BUS__OFFER_CHANGE || verdict == BUS__OFFER_OURS)
		version.changes += version.changes < UINT64_MAX;
	return version;
}
