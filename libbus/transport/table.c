#include "transport/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

static const struct bus__transport *const ours[] = {
    &bus__transport_inproc,
    &bus__transport_ipc,
    &bus__transport_tcp,
    &bus__transport_tls,
};

enum { OURS = sizeof ours / sizeof ours[0] };

/* Each is written once, with release, and read with acquire: a reader that finds one finds all of it. They never change and are
 * never freed, so no lock is needed, and a fork finds none held. */
static _Atomic(struct bus__added *) first;

static struct bus__added *
read_next(_Atomic(struct bus__added *) *at)
{
	return atomic_load_explicit(at, memory_order_acquire);
}

static bool
has_scheme(const struct bus__transport *transport, const char *scheme, size_t len)
{
	return strlen(transport->scheme) == len && memcmp(transport->scheme, scheme, len) == 0;
}

const struct bus__transport *
bus__transport_find(const char *scheme, size_t len)
{
	for (size_t i = 0; i < OURS; i++)
		if (has_scheme(ours[i], scheme, len))
			return ours[i];
	for (struct bus__added *at = read_next(&first); at != NULL; at = read_next(&at->next))
		if (has_scheme(&at->base, scheme, len))
			return &at->base;
	return NULL;
}

int
bus__transport_add(struct bus__added *added)
{
	const char *scheme = added->base.scheme;
	_Atomic(struct bus__added *) *end = &first;
	struct bus__added *at = NULL;

	if (bus__transport_find(scheme, strlen(scheme)) != NULL)
		return BUS_E_EXIST;
	/* If another thread was faster, look at its transport before trying the next place. */
	while (!atomic_compare_exchange_strong_explicit(
	    end, &at, added, memory_order_acq_rel, memory_order_acquire)) {
		if (has_scheme(&at->base, scheme, strlen(scheme)))
			return BUS_E_EXIST;
		end = &at->next;
		at = NULL;
	}
	return 0;
}

/* false: no room, nor for any later scheme. */
static bool
append(char *text, size_t cap, const char *scheme)
{
	const char *comma = text[0] != '\0' ? ", " : "";
	size_t len = strlen(text);

	/* Leave room for ", ..." behind it. */
	if (len + strlen(comma) + strlen(scheme) + sizeof ", ..." > cap) {
		snprintf(text + len, cap - len, "%s...", comma);
		return false;
	}
	snprintf(text + len, cap - len, "%s%s", comma, scheme);
	return true;
}

void
bus__transport_list(char *ret_text, size_t cap)
{
	ret_text[0] = '\0';
	for (size_t i = 0; i < OURS; i++)
		if (ours[i]->missing == NULL)
			append(ret_text, cap, ours[i]->scheme);
	for (struct bus__added *at = read_next(&first); at != NULL; at = read_next(&at->next))
		if (!append(ret_text, cap, at->base.scheme))
			return;
}

void
bus__transport_settle(int64_t deadline_ns)
{
	for (struct bus__added *at = read_next(&first); at != NULL; at = read_next(&at->next))
		at->base.settle(&at->base, deadline_ns);
}
