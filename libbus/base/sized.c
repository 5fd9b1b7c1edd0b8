#include "base/sized.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <libbus/bus.h>
#include <libbus/own_transport.h>
#include <libbus/push.h>
#include <libbus/transport.h>

#include "base/error_text.h"

/* The size of a struct when `last` was its last field and `widest` the type that aligned it. */
#define FIRST(type, last, widest)                                                                  \
	((offsetof(type, last) + sizeof((type *)0)->last + _Alignof(widest) - 1) /                 \
	    _Alignof(widest) * _Alignof(widest))

const struct sized bus__sized[SIZED_KINDS] = {
    [SIZED_MSG] = {"bus_msg", FIRST(struct bus_msg, position, uint64_t), sizeof(struct bus_msg)},
    [SIZED_CONFIG] = {"bus_config", FIRST(struct bus_config, will, uint64_t),
	sizeof(struct bus_config)},
    [SIZED_PUB_CONFIG] = {"bus_pub_config", FIRST(struct bus_pub_config, wait_ms, size_t),
	sizeof(struct bus_pub_config)},
    [SIZED_MAILBOX_CONFIG] = {"bus_mailbox_config",
	FIRST(struct bus_mailbox_config, from_epoch, uint64_t), sizeof(struct bus_mailbox_config)},
    [SIZED_KEEP_CONFIG] = {"bus_keep_config", FIRST(struct bus_keep_config, max_bytes, uint64_t),
	sizeof(struct bus_keep_config)},
    [SIZED_LINK_CONFIG] = {"bus_link_config", FIRST(struct bus_link_config, max_peers, size_t),
	sizeof(struct bus_link_config)},
    [SIZED_STATS] = {"bus_stats", FIRST(struct bus_stats, goal, uint64_t),
	sizeof(struct bus_stats)},
    [SIZED_LINK_STATS] = {"bus_link_stats", FIRST(struct bus_link_stats, ended, uint64_t),
	sizeof(struct bus_link_stats)},
    [SIZED_LOG_STATS] = {"bus_log_stats", FIRST(struct bus_log_stats, processes_most, uint64_t),
	sizeof(struct bus_log_stats)},
    [SIZED_MEMBER] = {"bus_member", FIRST(struct bus_member, is_alive, size_t),
	sizeof(struct bus_member)},
    [SIZED_TRANSPORT] = {"bus_transport", FIRST(struct bus_transport, close, void *),
	sizeof(struct bus_transport)},
    [SIZED_PUSH_CONFIG] = {"bus_push_config", FIRST(struct bus_push_config, remember_count, size_t),
	sizeof(struct bus_push_config)},
    [SIZED_PAGE_CONFIG] = {"bus_page_config", FIRST(struct bus_page_config, event, uint64_t),
	sizeof(struct bus_page_config)},
    [SIZED_PUSH_STATS] = {"bus_push_stats", FIRST(struct bus_push_stats, waiting_bytes, uint64_t),
	sizeof(struct bus_push_stats)},
};

_Static_assert((int)BUS_LOSS_COUNT <= BUS_LOSS_ROOM, "bus_stats.lost has room for each kind");
_Static_assert(
    (int)BUS_LINK_END_COUNT <= BUS_LINK_END_ROOM, "bus_link_stats.ended has room for each kind");

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool
is_clear(const unsigned char *bytes, size_t len)
{
	unsigned any = 0;

	for (size_t i = 0; i < len; i++)
		any |= bytes[i];
	return any == 0;
}

int
bus__sized_check(const struct sized *kind, size_t size)
{
	const char *name = kind->name;

	if (size >= kind->first && size <= SIZED_MOST)
		return 0;
	if (size == 0)
		return bus__fail(BUS_E_INVAL,
		    "struct %s: its size is 0: set .size = sizeof (struct %s)", name, name);
	return bus__fail(BUS_E_INVAL,
	    "struct %s: its size is %zu, and that of any version is from %zu to %d: set .size = sizeof (struct %s)",
	    name, size, kind->first, SIZED_MOST, name);
}

int
bus__sized_read(const struct sized *kind, const void *given, void *ret_copy)
{
	size_t size;
	int err;

	memcpy(&size, given, sizeof size);
	err = bus__sized_check(kind, size);
	if (err < 0)
		return err;
	if (size > kind->now &&
	    !is_clear((const unsigned char *)given + kind->now, size - kind->now))
		return bus__fail(BUS_E_INVAL,
		    "struct %s: the caller was built against a newer libbus and uses a field that this one does not know (size %zu, known %zu): leave it 0, or run with the newer libbus",
		    kind->name, size, kind->now);
	memset(ret_copy, 0, kind->now);
	memcpy(ret_copy, given, smaller(size, kind->now));
	memcpy(ret_copy, &kind->now, sizeof kind->now);
	return 0;
}

void
bus__sized_write(const struct sized *kind, const void *from, void *ret_given)
{
	unsigned char *to = ret_given;
	size_t size, known;

	memcpy(&size, ret_given, sizeof size);
	known = smaller(size, kind->now);
	memcpy(to + sizeof size, (const unsigned char *)from + sizeof size, known - sizeof size);
	memset(to + known, 0, size - known);
}
