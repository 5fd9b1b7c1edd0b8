/* log/topics.c: the names of topics, once for all members.
 *
 * They lie one behind the other and stay for the log's life; the number of a topic is where it lies, in units of
 * 8 bytes. Space is taken by CAS, the name is written, and the topic shown by CAS at the head of its bucket's chain:
 * one that dies in between has wasted its space, and one that comes back late shows what only it has written. */
#include "log/log.h"

#include <string.h>

#include <libbus/bus.h>
#include <libbus/error.h>

#include "base/siphash.h"

struct log_topic *
bus__log_topic_at(const struct log *log, uint32_t number)
{
	if (number == 0 || (uint64_t)number * 8 + sizeof(struct log_topic) > log->topics_bytes)
		return NULL;
	return (struct log_topic *)(log->topics + (uint64_t)number * 8);
}

uint64_t
bus__log_topic_bytes(size_t len)
{
	return (sizeof(struct log_topic) + len + 1 + 7) & ~(uint64_t)7;
}

/* Whether a whole name lies there; its length, read once. */
static bool
is_whole(const struct log *log, uint32_t number, const struct log_topic *topic, uint32_t *ret_len)
{
	uint64_t left = log->topics_bytes - (uint64_t)number * 8 - sizeof *topic;

	*ret_len = topic->len;
	return *ret_len > 0 && *ret_len <= BUS_LIMIT_TOPIC_BYTES && *ret_len < left &&
	       topic->name[*ret_len] == '\0';
}

const char *
bus__log_topic_name(const struct log *log, uint32_t number, size_t *ret_len)
{
	const struct log_topic *topic = bus__log_topic_at(log, number);
	uint32_t len;

	if (topic == NULL || !is_whole(log, number, topic, &len))
		return NULL;
	*ret_len = len;
	return topic->name;
}

/* Looks for a name from topic `number` on, as far as `end`, where another search began. 0: it is not there. */
static uint32_t
find(const struct log *log, uint32_t number, uint32_t end, const char *name, size_t len)
{
	/* No chain is longer, unless somebody has damaged it. */
	uint64_t steps = log->topics_bytes / (sizeof(struct log_topic) + 8);

	while (number != end && steps-- > 0) {
		const struct log_topic *topic = bus__log_topic_at(log, number);
		uint32_t its;

		if (topic == NULL)
			return 0;
		if (is_whole(log, number, topic, &its) && its == len &&
		    memcmp(topic->name, name, len) == 0)
			return number;
		number = atomic_load_explicit(&topic->next, memory_order_relaxed);
	}
	return 0;
}

/* Takes space; of the last sixteenth only for $..., so that members can always name themselves. 0: there is none. */
static uint32_t
claim(struct log *log, const char *name, size_t len)
{
	_Atomic uint64_t *end = &log->shared->topics_end;
	uint64_t most = name[0] == '$' ? log->topics_bytes : log->topics_bytes / 16 * 15;
	uint64_t size = bus__log_topic_bytes(len);
	uint64_t begin = atomic_load_explicit(end, memory_order_relaxed);

	do {
		if (begin % 8 != 0 || begin > most || size > most - begin)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(
	    end, &begin, begin + size, memory_order_relaxed, memory_order_relaxed));
	return (uint32_t)(begin / 8);
}

static _Atomic uint32_t *
bucket_of(const struct log *log, const char *name, size_t len)
{
	return &log->shared->buckets[bus__siphash(log->key, name, len) % LOG_BUCKETS];
}

uint32_t
bus__log_topic_find(const struct log *log, const char *name, size_t len)
{
	/* Acquire: pairs with the release that shows a topic; what it leads to was shown before. */
	return find(log, atomic_load_explicit(bucket_of(log, name, len), memory_order_acquire), 0,
	    name, len);
}

int
bus__log_topic(struct log *log, const char *name, size_t len, uint32_t *ret_topic)
{
	_Atomic uint32_t *bucket = bucket_of(log, name, len);
	/* Acquire: as above. */
	uint32_t head = atomic_load_explicit(bucket, memory_order_acquire);
	uint32_t number = find(log, head, 0, name, len), searched = head, mine;
	struct log_topic *topic;

	if (number == 0) {
		mine = claim(log, name, len);
		if (mine == 0)
			return BUS_E_LIMIT;
		topic = bus__log_topic_at(log, mine);
		topic->len = (uint32_t)len;
		memcpy(topic->name, name, len);
		topic->name[len] = '\0';
		do {
			atomic_store_explicit(&topic->next, head, memory_order_relaxed);
			number = mine;
			if (atomic_compare_exchange_strong_explicit(
				bucket, &head, mine, memory_order_acq_rel, memory_order_acquire))
				break;
			/* Others have shown theirs meanwhile: it may be among them. */
			number = find(log, head, searched, name, len);
			searched = head;
		} while (number == 0);
	}
	*ret_topic = number;
	return 0;
}

void
bus__log_topics_kept(const struct log *log,
    void (*fn)(void *arg, uint32_t topic, const char *name, size_t len), void *arg)
{
	uint64_t steps = log->topics_bytes / sizeof(struct log_topic);

	for (uint32_t i = 0; i < LOG_BUCKETS; i++) {
		uint32_t number =
		    atomic_load_explicit(&log->shared->buckets[i], memory_order_acquire);
		const struct log_topic *topic;

		for (; (topic = bus__log_topic_at(log, number)) != NULL && steps > 0; steps--) {
			uint32_t len;

			if (atomic_load_explicit(&topic->kept[0], memory_order_acquire) != 0 &&
			    is_whole(log, number, topic, &len))
				fn(arg, number, topic->name, len);
			number = atomic_load_explicit(&topic->next, memory_order_relaxed);
		}
	}
}

uint32_t
bus__log_topic_next(const struct log *log, struct log_place *place, unsigned *left)
{
	uint64_t most = LOG_BUCKETS + log->topics_bytes / sizeof(struct log_topic);

	while (*left > 0 && place->bucket < LOG_BUCKETS && place->steps <= most) {
		const _Atomic uint32_t *bucket = &log->shared->buckets[place->bucket];
		uint32_t number = place->number, len;
		const struct log_topic *topic;

		--*left;
		place->steps++;
		if (number == 0)
			number = atomic_load_explicit(bucket, memory_order_acquire);
		topic = bus__log_topic_at(log, number);
		place->number =
		    topic != NULL ? atomic_load_explicit(&topic->next, memory_order_relaxed) : 0;
		place->bucket += place->number == 0;
		if (topic != NULL &&
		    atomic_load_explicit(&topic->kept[0], memory_order_acquire) != 0 &&
		    is_whole(log, number, topic, &len))
			return number;
	}
	return 0;
}
