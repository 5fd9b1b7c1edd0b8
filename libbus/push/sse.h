/* push/sse.h: messages as server-sent events. It knows no page and no bus.
 * The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html. */
#ifndef BUS_PUSH_SSE_H
#define BUS_PUSH_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "push/text.h"

/* The place of an event in the past of a bus. */
struct event_id {
	uint64_t epoch, position;
	bool more; /* a page whose last id this is lacks some kept values */
};

enum { BUS__ID_TEXT = 40 };

/* Returns text, which holds "EPOCH-POSITION" in hex, with an ending k for `more`. */
const char *bus__id_write(const struct event_id *id, char text[BUS__ID_TEXT]);
/* false: text is not an id. */
bool bus__id_read(const char *text, struct event_id *ret_id);

/* `id: ID`; id may be NULL here and below: no such line. */
void bus__sse_id(struct text *out, const struct event_id *id);

/* A message as {"topic", "value", "kept"}. */
void bus__sse_message(struct text *out, const struct bus_msg *msg, const struct event_id *id);

/* Its value alone, as an event of that name; NULL: the name in the header "event", if any. Uses the headers "id" and "retry". */
void bus__sse_raw(
    struct text *out, const struct bus_msg *msg, const struct event_id *id, const char *name);

/* {key: text, "message": message}, as an event of that name; message may be NULL. */
void bus__sse_notice(struct text *out, const struct event_id *id, const char *name, const char *key,
    const char *text, const char *message);

/* An event of that name without further data. */
void bus__sse_mark(struct text *out, const struct event_id *id, const char *name);

/* `event: hb` with the heartbeat in seconds; retry_ms 0: no `retry:`. */
void bus__sse_beat(
    struct text *out, const struct event_id *id, uint32_t heartbeat_ms, uint32_t retry_ms);

void bus__sse_gap(struct text *out, uint64_t lost);
/* `event: end`. The time is its data too, since JavaScript cannot read `retry:`. */
void bus__sse_end(struct text *out, uint32_t retry_ms);

#endif
