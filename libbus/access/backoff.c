#include "access/backoff.h"

#include <stdbool.h>
#include <string.h>

#include "access/reach.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/siphash.h"

#define SEVERAL UINT64_C(2) /* several users; no name_id() */

struct bus__backoff {
	uint64_t secret[2]; /* keys the hashes, so that no peer can fail in another's place */
	size_t count;
	/* Searched in order: the whole array takes a microsecond, once per login. */
	uint64_t ids[BUS__BACKOFF_MOST];
	struct entry {
		int64_t last_ms;
		uint64_t user; /* the user whose password was wrong: name_id(), or SEVERAL */
		uint32_t failures;
	} entries[BUS__BACKOFF_MOST];
};

struct bus__backoff *
bus__backoff_new(void)
{
	struct bus__backoff *backoff = bus__calloc(1, sizeof *backoff);

	if (backoff != NULL)
		bus__random(backoff->secret, sizeof backoff->secret);
	return backoff;
}

void
bus__backoff_free(struct bus__backoff *backoff)
{
	bus__free(backoff);
}

size_t
bus__backoff_count(const struct bus__backoff *backoff)
{
	return backoff->count;
}

/* --- which failures count together ---------------------------------------------------------------------------- */

/* 0: no user. */
static uint64_t
name_id(const struct bus__backoff *backoff, const char *user)
{
	if (user == NULL || user[0] == '\0')
		return 0;
	return bus__siphash(backoff->secret, user, strlen(user)) | 1;
}

/* 0: nothing is known that tells peers apart. */
static uint64_t
make_id(const struct bus__backoff *backoff, const struct sockaddr *addr, const char *user)
{
	uint64_t host = bus__reach_host(addr);

	return host != 0 ? bus__siphash(backoff->secret, &host, sizeof host) | 1
			 : name_id(backoff, user);
}

/* --- the table ------------------------------------------------------------------------------------------------ */

static bool
find(const struct bus__backoff *backoff, uint64_t id, size_t *ret_at)
{
	for (size_t i = 0; i < backoff->count; i++)
		if (backoff->ids[i] == id) {
			*ret_at = i;
			return true;
		}
	return false;
}

static bool
is_forgiven(const struct entry *entry, int64_t now_ms)
{
	return now_ms - entry->last_ms >= BUS__BACKOFF_FORGIVEN_MS;
}

static int64_t
pause_of(uint32_t failures)
{
	uint32_t more = failures - BUS__BACKOFF_FREE;

	if (failures < BUS__BACKOFF_FREE)
		return 0;
	if (more >= 6 || BUS__BACKOFF_FIRST_MS << more > BUS__BACKOFF_LAST_MS)
		return BUS__BACKOFF_LAST_MS;
	return BUS__BACKOFF_FIRST_MS << more;
}

int64_t
bus__backoff_wait(const struct bus__backoff *backoff, const struct sockaddr *addr, const char *user,
    int64_t now_ms)
{
	const struct entry *entry;
	int64_t left;
	size_t at;

	if (!find(backoff, make_id(backoff, addr, user), &at))
		return 0;
	entry = &backoff->entries[at];
	if (is_forgiven(entry, now_ms))
		return 0;
	left = entry->last_ms + pause_of(entry->failures) - now_ms;
	return left > 0 ? left : 0;
}

/* A free place, or that of the entry whose last failure is oldest. */
static size_t
make_place(struct bus__backoff *backoff)
{
	size_t oldest = 0;

	if (backoff->count < BUS__BACKOFF_MOST)
		return backoff->count++;
	for (size_t i = 1; i < backoff->count; i++)
		if (backoff->entries[i].last_ms < backoff->entries[oldest].last_ms)
			oldest = i;
	return oldest;
}

void
bus__backoff_failed(
    struct bus__backoff *backoff, const struct sockaddr *addr, const char *user, int64_t now_ms)
{
	uint64_t id = make_id(backoff, addr, user);
	struct entry *entry;
	size_t at;

	if (id == 0)
		return;
	if (!find(backoff, id, &at)) {
		at = make_place(backoff);
		backoff->ids[at] = id;
		backoff->entries[at] = (struct entry){.failures = 0};
	}
	entry = &backoff->entries[at];
	if (entry->failures > 0 && is_forgiven(entry, now_ms))
		entry->failures = 0;
	entry->user = entry->failures == 0 || entry->user == name_id(backoff, user)
			  ? name_id(backoff, user)
			  : SEVERAL;
	entry->failures += entry->failures < UINT32_MAX;
	entry->last_ms = now_ms;
}

void
bus__backoff_succeeded(struct bus__backoff *backoff, const struct sockaddr *addr, const char *user)
{
	size_t at;

	if (!find(backoff, make_id(backoff, addr, user), &at))
		return;
	/* Knowing one password does not clear guesses at others. */
	if (backoff->entries[at].user != name_id(backoff, user))
		return;
	backoff->count--;
	backoff->ids[at] = backoff->ids[backoff->count];
	backoff->entries[at] = backoff->entries[backoff->count];
}
