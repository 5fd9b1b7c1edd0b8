#include "push/frame.h"

#include <string.h>

#include "base/mem.h"

/* Further bytes of a waiting frame: its share of the queue, and malloc()'s overhead. */
enum { BESIDE = 32 };

struct frame *
bus__frame_new(struct text *text, const char *topic, uint64_t hash)
{
	size_t topic_size = topic != NULL ? strlen(topic) + 1 : 0;
	struct frame *frame = NULL;

	if (!text->failed && text->len <= INT32_MAX)
		frame = bus__malloc(sizeof *frame + text->len + topic_size);
	if (frame != NULL) {
		*frame = (struct frame){.refs = 1,
		    .len = (uint32_t)text->len,
		    .cost = (uint32_t)(sizeof *frame + text->len + topic_size + BESIDE),
		    .hash = hash};
		memcpy(frame->bytes, text->at, text->len);
		if (topic != NULL)
			frame->topic = memcpy(frame->bytes + text->len, topic, topic_size);
	}
	bus__text_free(text);
	return frame;
}

struct frame *
bus__frame_ref(struct frame *frame)
{
	frame->refs++;
	return frame;
}

void
bus__frame_unref(struct frame *frame)
{
	if (frame != NULL && --frame->refs == 0)
		bus__free(frame);
}

static bool
is_same(const char *one, const char *other)
{
	return one == other || (one != NULL && other != NULL && strcmp(one, other) == 0);
}

struct form *
bus__form_get(struct form **list, bool raw, const char *event)
{
	struct form *form;

	for (form = *list; form != NULL; form = form->next)
		if (form->raw == raw && is_same(form->event, event)) {
			form->refs++;
			return form;
		}
	form = bus__calloc(1, sizeof *form);
	if (form == NULL)
		return NULL;
	form->refs = 1;
	form->raw = raw;
	if (event != NULL && (form->event = bus__strdup(event)) == NULL) {
		bus__free(form);
		return NULL;
	}
	form->next = *list;
	*list = form;
	return form;
}

void
bus__form_put(struct form **list, struct form *form)
{
	if (--form->refs > 0)
		return;
	while (*list != form)
		list = &(*list)->next;
	*list = form->next;
	bus__frame_unref(form->frame);
	bus__free(form->event);
	bus__free(form);
}

void
bus__forms_clear(struct form *list)
{
	for (struct form *form = list; form != NULL; form = form->next) {
		bus__frame_unref(form->frame);
		form->frame = NULL;
	}
}

struct frame *
bus__form_write(
    const struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash)
{
	struct text text = {.at = NULL};

	if (form->raw)
		bus__sse_raw(&text, msg, id, form->event);
	else
		bus__sse_message(&text, msg, id);
	return bus__frame_new(&text, msg->topic, hash);
}

struct frame *
bus__form_frame(
    struct form *form, const struct bus_msg *msg, const struct event_id *id, uint64_t hash)
{
	if (form->frame == NULL)
		form->frame = bus__form_write(form, msg, id, hash);
	return form->frame;
}
