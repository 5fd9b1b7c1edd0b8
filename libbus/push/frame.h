/* push/frame.h: bytes that many pages send, and the forms of a message. The reactor's thread alone. */
#ifndef BUS_PUSH_FRAME_H
#define BUS_PUSH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "push/sse.h"

/* One event, whole. */
struct frame {
	uint32_t refs, len;
	uint32_t cost;     /* of memory, while it waits for one page only */
	uint64_t hash;     /* of the topic */
	const char *topic; /* behind the bytes; NULL: not a message */
	char bytes[];
};

/* Makes a frame of a text, which is freed. NULL: out of memory. */
struct frame *bus__frame_new(struct text *text, const char *topic, uint64_t hash);
struct frame *bus__frame_ref(struct frame *frame);
void bus__frame_unref(struct frame *frame); /* NULL is fine */

/* The form in which pages want their messages: pages with the same wish share a form, and so its frames. */
struct form {
	uint32_t refs;
	bool raw;
	char *event;         /* with raw: the name of each event; NULL: from its header */
	struct frame *frame; /* of the current message; NULL: not written yet */
	struct form *next;
};

/* Finds or makes the form in that list; it ends with its last page. NULL: out of memory. */
struct form *bus__form_get(struct form **list, bool raw, const char *event);
void bus__form_put(struct form **list, struct form *form);

/* Forgets the frames of the previous message. */
void bus__forms_clear(struct form *list);

/* The current message in that form, written only once. Borrowed; NULL: out of memory. */
struct frame *bus__form_frame(
    struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash);

/* A message in that form, for one page. */
struct frame *bus__form_write(
    const struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash);

#endif
