#include "link/filters.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/frame.h"

static size_t
position(const struct bus__filters *filters, const char *filter, bool *ret_there)
{
	size_t low = 0, high = filters->count;

	*ret_there = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(filters->list[mid].text, filter);

		if (order == 0) {
			*ret_there = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
make_room(struct bus__filters *filters)
{
	size_t cap = filters->cap == 0 ? 4 : filters->cap * 2;
	struct bus__filter *list;

	if (filters->count == BUS__LIMIT_FILTERS)
		return BUS_E_PROTOCOL;
	if (filters->count < filters->cap)
		return 0;
	list = bus__realloc(filters->list, cap * sizeof *list);
	if (list == NULL)
		return BUS_E_NOMEM;
	filters->list = list;
	filters->cap = cap;
	return 0;
}

int
bus__filters_add(struct bus__filters *filters, struct bus_mailbox *mbox, const char *filter)
{
	struct bus__filter entry = {.is_due = false};
	size_t at;
	bool there;
	int err;

	at = position(filters, filter, &there);
	if (there) {
		filters->list[at].is_due = false;
		return 0;
	}
	err = make_room(filters);
	if (err < 0)
		return err;
	entry.text = bus__strdup(filter);
	if (entry.text == NULL)
		return BUS_E_NOMEM;
	err = bus_mailbox_subscribe(mbox, filter, NULL, NULL, &entry.sub);
	if (err < 0) {
		bus__free(entry.text);
		return err;
	}
	memmove(filters->list + at + 1, filters->list + at,
	    (filters->count - at) * sizeof *filters->list);
	filters->list[at] = entry;
	filters->count++;
	return 0;
}

static void
free_entry(struct bus__filter *entry)
{
	bus_unsubscribe(entry->sub, NULL);
	bus__free(entry->text);
}

void
bus__filters_remove(struct bus__filters *filters, const char *filter)
{
	struct bus__filter entry;
	size_t at;
	bool there;

	at = position(filters, filter, &there);
	if (!there)
		return;
	entry = filters->list[at];
	filters->count--;
	memmove(filters->list + at, filters->list + at + 1,
	    (filters->count - at) * sizeof *filters->list);
	free_entry(&entry);
}

void
bus__filters_begin_renewal(struct bus__filters *filters)
{
	for (size_t i = 0; i < filters->count; i++)
		filters->list[i].is_due = true;
}

bool
bus__filters_end_renewal(struct bus__filters *filters, int64_t until_ns)
{
	size_t left = 0, i = 0;
	bool is_late = false;

	for (; i < filters->count && !is_late; i++) {
		if (filters->list[i].is_due) {
			free_entry(&filters->list[i]);
			is_late = bus__now_ns() >= until_ns;
		} else {
			filters->list[left++] = filters->list[i];
		}
	}
	if (left == i)
		return true;
	memmove(
	    filters->list + left, filters->list + i, (filters->count - i) * sizeof *filters->list);
	filters->count -= i - left;
	return !is_late;
}

bool
bus__filters_clear(struct bus__filters *filters, int64_t until_ns)
{
	while (filters->count > 0) {
		free_entry(&filters->list[--filters->count]);
		if (filters->count > 0 && bus__now_ns() >= until_ns)
			return false;
	}
	bus__free(filters->list);
	*filters = (struct bus__filters){.list = NULL};
	return true;
}
