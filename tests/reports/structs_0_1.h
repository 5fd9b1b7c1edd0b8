/* reports/structs_0_1.h: the public structs of version 0.1, which older callers have for ever. */
#ifndef STRUCTS_0_1_H
#define STRUCTS_0_1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>
#include <libbus/own_transport.h>
#include <libbus/push.h>
#include <libbus/transport.h>

#include "base/sized.h"

struct msg_0_1 {
	size_t size;
	const char *topic;
	const void *data;
	size_t len;
	int type;
	uint32_t flags;
	uint64_t lost;
	int64_t time_ns;
	uint32_t ttl_ms;
	const void *headers;
	size_t headers_len;
	uint64_t reply_to, position;
};

struct config_0_1 {
	size_t size;
	uint32_t max_topics, max_payload;
	const char *dir;
	uint64_t log_bytes;
	const struct bus_msg *will;
};

struct pub_config_0_1 {
	size_t size;
	int type, wait_ms;
};

struct mailbox_config_0_1 {
	size_t size;
	int full, drain;
	size_t bytes;
	const char *group;
	int from;
	uint64_t from_value, from_epoch;
};

struct keep_config_0_1 {
	size_t size;
	uint32_t last;
	uint64_t max_bytes;
};

struct link_config_0_1 {
	size_t size, bytes;
	uint32_t heartbeat_ms, max_peers;
};

struct stats_0_1 {
	size_t size;
	uint64_t offered, delivered, pending, refused, lost[16], late_replies, reached, goal;
};

struct link_stats_0_1 {
	size_t size;
	int state;
	uint32_t peers;
	int last_error;
	uint64_t sent, received, lost, lost_by_peers, refused, ended[16];
};

struct log_stats_0_1 {
	size_t size;
	uint64_t log_bytes, messages, messages_left, oldest, values_bytes, values_most,
	    values_count, values_count_most;
	uint32_t segments, readers, readers_most, processes, processes_most;
};

struct member_0_1 {
	size_t size;
	uint32_t pid;
	bool is_this, is_alive;
};

struct push_config_0_1 {
	size_t size;
	uint32_t heartbeat_ms, retry_ms, max_pages, history;
	void (*ask)(void *arg, uint64_t page, const char *topic);
	void (*left)(void *arg, uint64_t page);
	void *arg;
	const char *const *remember;
	size_t remember_count;
};

struct page_config_0_1 {
	size_t size;
	const struct bus_page_filter *filters;
	size_t filters_count;
	const char *head;
	size_t head_len;
	const char *last_id;
	uint64_t from_value, from_epoch;
	int from, full;
	uint32_t bytes, interval_ms;
	bool raw, ask;
	const char *event;
};

struct push_stats_0_1 {
	size_t size;
	uint64_t pages, pages_most, opened, events, bytes, lost, replaced, denied, unsent, resumed,
	    reset;
	uint64_t waiting_bytes;
};

struct transport_0_1 {
	size_t size;
	const char *scheme;
	void *arg;
	int (*listen)(void *arg, const char *address, void **ret_listener);
	int (*accept)(void *listener, int timeout_ms, void **ret_conn);
	int (*dial)(void *arg, const char *address, int timeout_ms, void **ret_conn);
	int (*send)(void *conn, const void *data, size_t len, int timeout_ms);
	int (*recv)(void *conn, void *ret_data, size_t cap, int timeout_ms);
	void (*close)(void *handle);
};

#define SAME(name, field)                                                                          \
	_Static_assert(offsetof(struct name##_0_1, field) == offsetof(struct bus_##name, field),   \
	    "fields of version 0.1 stay in their places")
SAME(msg, topic);
SAME(msg, data);
SAME(msg, len);
SAME(msg, type);
SAME(msg, flags);
SAME(msg, lost);
SAME(msg, time_ns);
SAME(msg, ttl_ms);
SAME(msg, headers);
SAME(msg, headers_len);
SAME(msg, reply_to);
SAME(msg, position);
SAME(config, max_topics);
SAME(config, max_payload);
SAME(config, dir);
SAME(config, log_bytes);
SAME(config, will);
SAME(pub_config, type);
SAME(pub_config, wait_ms);
SAME(mailbox_config, full);
SAME(mailbox_config, drain);
SAME(mailbox_config, bytes);
SAME(mailbox_config, group);
SAME(mailbox_config, from);
SAME(mailbox_config, from_value);
SAME(mailbox_config, from_epoch);
SAME(keep_config, last);
SAME(keep_config, max_bytes);
SAME(link_config, bytes);
SAME(link_config, heartbeat_ms);
SAME(link_config, max_peers);
SAME(stats, offered);
SAME(stats, delivered);
SAME(stats, pending);
SAME(stats, refused);
SAME(stats, lost);
SAME(stats, late_replies);
SAME(stats, reached);
SAME(stats, goal);
SAME(link_stats, state);
SAME(link_stats, peers);
SAME(link_stats, last_error);
SAME(link_stats, sent);
SAME(link_stats, received);
SAME(link_stats, lost);
SAME(link_stats, lost_by_peers);
SAME(link_stats, refused);
SAME(link_stats, ended);
SAME(log_stats, log_bytes);
SAME(log_stats, messages);
SAME(log_stats, messages_left);
SAME(log_stats, oldest);
SAME(log_stats, values_bytes);
SAME(log_stats, values_most);
SAME(log_stats, values_count);
SAME(log_stats, values_count_most);
SAME(log_stats, segments);
SAME(log_stats, readers);
SAME(log_stats, readers_most);
SAME(log_stats, processes);
SAME(log_stats, processes_most);
SAME(member, pid);
SAME(member, is_this);
SAME(member, is_alive);
SAME(transport, scheme);
SAME(transport, arg);
SAME(transport, listen);
SAME(transport, accept);
SAME(transport, dial);
SAME(transport, send);
SAME(transport, recv);
SAME(transport, close);
SAME(push_config, heartbeat_ms);
SAME(push_config, retry_ms);
SAME(push_config, max_pages);
SAME(push_config, history);
SAME(push_config, ask);
SAME(push_config, left);
SAME(push_config, arg);
SAME(push_config, remember);
SAME(push_config, remember_count);
SAME(page_config, filters);
SAME(page_config, filters_count);
SAME(page_config, head);
SAME(page_config, head_len);
SAME(page_config, last_id);
SAME(page_config, from_value);
SAME(page_config, from_epoch);
SAME(page_config, from);
SAME(page_config, full);
SAME(page_config, bytes);
SAME(page_config, interval_ms);
SAME(page_config, raw);
SAME(page_config, ask);
SAME(page_config, event);
SAME(push_stats, pages);
SAME(push_stats, pages_most);
SAME(push_stats, opened);
SAME(push_stats, events);
SAME(push_stats, bytes);
SAME(push_stats, lost);
SAME(push_stats, replaced);
SAME(push_stats, denied);
SAME(push_stats, unsent);
SAME(push_stats, resumed);
SAME(push_stats, reset);
SAME(push_stats, waiting_bytes);

static const size_t sizes_0_1[SIZED_KINDS] = {
    [SIZED_MSG] = sizeof(struct msg_0_1),
    [SIZED_CONFIG] = sizeof(struct config_0_1),
    [SIZED_PUB_CONFIG] = sizeof(struct pub_config_0_1),
    [SIZED_MAILBOX_CONFIG] = sizeof(struct mailbox_config_0_1),
    [SIZED_KEEP_CONFIG] = sizeof(struct keep_config_0_1),
    [SIZED_LINK_CONFIG] = sizeof(struct link_config_0_1),
    [SIZED_STATS] = sizeof(struct stats_0_1),
    [SIZED_LINK_STATS] = sizeof(struct link_stats_0_1),
    [SIZED_LOG_STATS] = sizeof(struct log_stats_0_1),
    [SIZED_MEMBER] = sizeof(struct member_0_1),
    [SIZED_TRANSPORT] = sizeof(struct transport_0_1),
    [SIZED_PUSH_CONFIG] = sizeof(struct push_config_0_1),
    [SIZED_PAGE_CONFIG] = sizeof(struct page_config_0_1),
    [SIZED_PUSH_STATS] = sizeof(struct push_stats_0_1),
};

#endif
