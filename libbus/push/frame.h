/* push/frame.h: bytes that many pages send, and the forms in which a message can be had. The reactor's thread alone. */
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
	uint32_t cost;     /* of memory, while it waits for one page alone */
	uint64_t hash;     /* of the topic */
	const char *topic; /* behind the bytes; NULL: an event of our own */
	char bytes[];
};

/* Makes a frame of a text, which is freed. NULL: out of memory. */
struct frame *bus__frame_new(struct text *text, const char *topic, uint64_t hash);
struct frame *bus__frame_ref(struct frame *frame);
void bus__frame_unref(struct frame *frame); /* NULL is fine */

/* How pages want their messages: those with the same wish share a form, and so the frames. */
struct form {
	uint32_t refs;
	bool raw;
	char *event;         /* with raw: the name of each event; NULL: by its header */
	struct frame *frame; /* of the message that is handled now; NULL: nobody wanted it yet */
	struct form *next;
};

/* The form in that list, made if it is not there; it ends with its last page. NULL: out of memory. */
struct form *bus__form_get(struct form **list, bool raw, const char *event);
void bus__form_put(struct form **list, struct form *form);

/* Forgets the frames of the message before. */
void bus__forms_clear(struct form *list);

/* A message in that form, written at most once for each message. Borrowed; NULL: out of memory. */
struct frame *bus__form_frame(
    struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash);

/* A message in that form, for one page. */
struct frame *bus__form_write(
    const struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash);

#endif
