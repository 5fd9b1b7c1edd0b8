#include "base/offer.h"

static bool
is_of(const struct bus__version *version, const uint8_t id[BUS__BUS_ID])
{
	return version->changes > 0 && memcmp(version->bus, id, BUS__BUS_ID) == 0;
}

bool
bus__offer_comes_back(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	return is_of(&offer->version, own) && is_of(&standing->version, own);
}

static enum bus__verdict
judge(const struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	const struct bus__version *has = &standing->version;
	int order = bus__version_compare(&offer->version, has);
	bool is_ours = is_of(has, own), by_maker = is_of(&offer->version, offer->peer);
	uint64_t number = offer->version.changes;

	if (order == 0)
		return BUS__OFFER_SAME;
	/* What this bus has made last it knows best. */
	if (bus__offer_comes_back(offer, standing, own) && order > 0)
		return standing->is_equal ? BUS__OFFER_RAISES : BUS__OFFER_OURS;
	/* And so does the peer; its changes come in their order. */
	if (by_maker && is_of(has, offer->peer)) {
		if (number <= standing->theirs)
			return number == standing->theirs ? BUS__OFFER_SAME : BUS__OFFER_OLDER;
		return order > 0 ? BUS__OFFER_NEWER : BUS__OFFER_CHANGE;
	}
	/* A change made here before the peer's values came, and without knowing of them. */
	if (order > 0 && is_ours && offer->is_before &&
	    (standing->is_recent || (offer->is_first && !by_maker)))
		return BUS__OFFER_OURS;
	if (order > 0)
		return BUS__OFFER_NEWER;
	/* The same seen from the other side. */
	if (by_maker && offer->is_before && offer->is_first && !is_ours)
		return BUS__OFFER_CHANGE;
	if (by_maker && !offer->is_kept && !offer->is_before)
		return BUS__OFFER_CHANGE;
	return BUS__OFFER_OLDER;
}

enum bus__verdict
bus__offer_judge(struct bus__offer *offer, const struct bus__standing *standing,
    const uint8_t own[BUS__BUS_ID])
{
	enum bus__verdict verdict = judge(offer, standing, own);

	offer->tell_peer = verdict == BUS__OFFER_CHANGE;
	/* A change made here that comes back in place of another's is told by its maker, too. */
	offer->tell_all = verdict == BUS__OFFER_RAISES || verdict == BUS__OFFER_OURS ||
			  (verdict == BUS__OFFER_NEWER && is_of(&offer->version, own));
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
