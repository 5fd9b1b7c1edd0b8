#include "push/sse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/pack.h>

#define LITERAL(out, text) bus__text_add(out, text, sizeof(text) - 1)

/* --- ids --------------------------------------------------------------------------------------------------------------- */

const char *
bus__id_write(const struct event_id *id, char text[BUS__ID_TEXT])
{
	snprintf(text, BUS__ID_TEXT, "%" PRIx64 "-%" PRIx64 "%s", id->epoch, id->position,
	    id->more ? "k" : "");
	return text;
}

/* Reads 1 to 16 lower-case hex digits. NULL: there are none. */
static const char *
read_hex(const char *at, uint64_t *ret_number)
{
	const char *from = at;
	uint64_t number = 0;

	for (; at - from < 16; at++) {
		const char *digits = "0123456789abcdef";
		const char *digit = *at != '\0' ? strchr(digits, *at) : NULL;

		if (digit == NULL)
			break;
		number = number << 4 | (uint64_t)(digit - digits);
	}
	*ret_number = number;
	return at != from ? at : NULL;
}

bool
bus__id_read(const char *text, struct event_id *ret_id)
{
	struct event_id id;
	const char *at = read_hex(text, &id.epoch);

	if (at == NULL || *at != '-')
		return false;
	at = read_hex(at + 1, &id.position);
	if (at == NULL)
		return false;
	id.more = *at == 'k';
	if (at[id.more] != '\0')
		return false;
	*ret_id = id;
	return true;
}

void
bus__sse_id(struct text *out, const struct event_id *id)
{
	char text[BUS__ID_TEXT];

	if (id != NULL)
		bus__text_format(out, "id: %s\n", bus__id_write(id, text));
}

/* --- values ------------------------------------------------------------------------------------------------------------ */

static void
add_json_of(struct text *out, const struct bus_value *value)
{
	char *json;
	size_t len;

	if (bus_value_json(value, &json, &len) < 0) {
		out->failed = true;
		return;
	}
	bus__text_add(out, json, len);
	free(json);
}

static void
add_json_text(struct text *out, const char *text, size_t len)
{
	struct bus_value value = {.kind = BUS_KIND_TEXT, .count = (uint32_t)len, .as.bytes = text};

	add_json_of(out, &value);
}

/* A payload as JSON on one line. A payload that does not fit its type is shown as bytes, so that the page continues. */
static void
add_json(struct text *out, const struct bus_msg *msg)
{
	struct bus_value bytes = {
	    .kind = BUS_KIND_BYTES, .count = (uint32_t)msg->len, .as.bytes = msg->data};
	char *json;
	size_t len;
	int err = bus_payload_json(msg->type, msg->data, msg->len, &json, &len);

	if (err == BUS_E_DECODE) {
		add_json_of(out, &bytes);
		return;
	}
	if (err < 0) {
		out->failed = true;
		return;
	}
	bus__text_add(out, json, len);
	free(json);
}

/* Text as lines of data. A carriage return, a line feed, and both together end a line there; EventSource joins them by line
 * feeds. */
static void
add_lines(struct text *out, const char *text, size_t len)
{
	size_t i = 0, from;

	do {
		LITERAL(out, "data: ");
		for (from = i; i < len && text[i] != '\n' && text[i] != '\r'; i++)
			;
		bus__text_add(out, text + from, i - from);
		LITERAL(out, "\n");
		if (i == len)
			return;
		i += text[i] == '\r' && i + 1 < len && text[i + 1] == '\n' ? 2 : 1;
	} while (true);
}

/* --- events ------------------------------------------------------------------------------------------------------------ */

void
bus__sse_message(struct text *out, const struct bus_msg *msg, const struct event_id *id)
{
	bus__sse_id(out, id);
	LITERAL(out, "data: {\"topic\":");
	add_json_text(out, msg->topic, strlen(msg->topic));
	LITERAL(out, ",\"value\":");
	add_json(out, msg);
	bus__text_format(
	    out, ",\"kept\":%s}\n\n", (msg->flags & BUS_MSG_KEPT) != 0 ? "true" : "false");
}

/* The text of a header, unless it would end the line; NULL: there is none. */
static const struct bus_value *
header(const struct bus_value *headers, const char *name)
{
	if (headers == NULL || headers->kind != BUS_KIND_MAP)
		return NULL;
	for (uint32_t i = 0; i < headers->count; i++) {
		const struct bus_value *key = &headers->as.items[2 * i], *value = key + 1;

		if (key->kind != BUS_KIND_TEXT || key->count != strlen(name) ||
		    memcmp(key->as.bytes, name, key->count) != 0)
			continue;
		if (value->kind == BUS_KIND_INT && value->as.i >= 0)
			return value;
		if (value->kind != BUS_KIND_TEXT)
			return NULL;
		for (uint32_t at = 0; at < value->count; at++)
			if (strchr("\r\n", value->as.bytes[at]) != NULL) /* NUL too */
				return NULL;
		return value;
	}
	return NULL;
}

static void
add_field(struct text *out, const char *name, const struct bus_value *value)
{
	bus__text_format(out, "%s: ", name);
	if (value->kind == BUS_KIND_INT)
		bus__text_format(out, "%" PRId64, value->as.i);
	else
		bus__text_add(out, value->as.bytes, value->count);
	LITERAL(out, "\n");
}

void
bus__sse_raw(
    struct text *out, const struct bus_msg *msg, const struct event_id *id, const char *name)
{
	const struct bus_value *headers = NULL, *value = NULL, *field;

	if (msg->headers_len > 0 &&
	    bus_value_read(BUS_TYPE_MSGPACK, msg->headers, msg->headers_len, &headers) < 0)
		headers = NULL;
	field = header(headers, "id");
	if (field != NULL)
		add_field(out, "id", field);
	else
		bus__sse_id(out, id);
	field = header(headers, "event");
	if (name != NULL)
		bus__text_format(out, "event: %s\n", name);
	else if (field != NULL && field->kind == BUS_KIND_TEXT)
		add_field(out, "event", field);
	field = header(headers, "retry");
	if (field != NULL && field->kind == BUS_KIND_INT)
		add_field(out, "retry", field);
	bus_value_free(headers);

	/* JSON payloads keep their form; text stands as it is. */
	if (bus_value_read(msg->type, msg->data, msg->len, &value) == 0 &&
	    value->kind == BUS_KIND_TEXT)
		add_lines(out, value->as.bytes, value->count);
	else {
		LITERAL(out, "data: ");
		add_json(out, msg);
		LITERAL(out, "\n");
	}
	LITERAL(out, "\n");
	bus_value_free(value);
}

void
bus__sse_notice(struct text *out, const struct event_id *id, const char *name, const char *key,
    const char *text, const char *message)
{
	bus__sse_id(out, id);
	bus__text_format(out, "event: %s\ndata: {\"%s\":", name, key);
	add_json_text(out, text, strlen(text));
	if (message != NULL) {
		LITERAL(out, ",\"message\":");
		add_json_text(out, message, strlen(message));
	}
	LITERAL(out, "}\n\n");
}

void
bus__sse_mark(struct text *out, const struct event_id *id, const char *name)
{
	bus__sse_id(out, id);
	bus__text_format(out, "event: %s\ndata: {}\n\n", name);
}

void
bus__sse_beat(struct text *out, const struct event_id *id, uint32_t heartbeat_ms, uint32_t retry_ms)
{
	if (retry_ms != 0)
		bus__text_format(out, "retry: %" PRIu32 "\n", retry_ms);
	bus__sse_id(out, id);
	bus__text_format(out, "event: hb\ndata: %" PRIu32, heartbeat_ms / 1000);
	if (heartbeat_ms % 1000 != 0)
		bus__text_format(out, ".%03" PRIu32, heartbeat_ms % 1000);
	LITERAL(out, "\n\n");
}

void
bus__sse_gap(struct text *out, uint64_t lost)
{
	bus__text_format(out, "event: gap\ndata: {\"lost\":%" PRIu64 "}\n\n", lost);
}

void
bus__sse_end(struct text *out, uint32_t retry_ms)
{
	bus__text_format(
	    out, "retry: %" PRIu32 "\nevent: end\ndata: %" PRIu32 "\n\n", retry_ms, retry_ms);
}
