/* Any names, one a line: those that may be filters and those that may be topics meet in one tree as the text of the
 * standard says, and leave nothing behind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

#include "topic/name.h"
#include "topic/trie.h"
#include "naive_match.h"

enum { MOST = 24 }; /* names: each is compared with each */

struct name {
	char *text;
	struct node *filter, *topic; /* NULL: it may not be one */
	unsigned met;
};

struct forest {
	struct trie trie;
	struct name names[MOST];
	unsigned count;
};

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* Hangs a name in. What hangs there is only compared: the name itself stands for subscriptions and topic. */
static void
plant(struct forest *f, const char *text, size_t len)
{
	struct name *name = &f->names[f->count];
	size_t checked;
	int err;

	*name = (struct name){.text = malloc(len + 1)};
	must(name->text != NULL);
	memcpy(name->text, text, len);
	name->text[len] = '\0';
	for (unsigned i = 0; i < f->count; i++)
		if (strcmp(f->names[i].text, name->text) == 0) {
			free(name->text);
			return;
		}
	f->count++;
	if (bus__filter_check(name->text, &checked) == 0) {
		must(checked == strlen(name->text));
		name->filter = bus__trie_make(&f->trie, name->text);
		name->filter->subs = (struct bus_sub *)(void *)name;
	}
	err = bus__topic_check(name->text, &checked);
	if (err == 0 || err == BUS_E_TOPIC_RESERVED) { /* $...: topics of the bus itself */
		name->topic = bus__trie_make(&f->trie, name->text);
		bus__trie_set_topic(name->topic, (struct topic *)(void *)name);
	}
}

static void
meet_filter(void *arg, struct node *node)
{
	struct name *name = (struct name *)(void *)node->subs;

	(void)arg;
	name->met++;
}

static void
meet_topic(void *arg, struct topic *topic)
{
	struct name *name = (struct name *)(void *)topic;

	(void)arg;
	name->met++;
}

static void
forget(struct forest *f)
{
	for (unsigned i = 0; i < f->count; i++)
		f->names[i].met = 0;
}

static void
compare(struct forest *f)
{
	for (unsigned i = 0; i < f->count; i++) {
		const struct name *one = &f->names[i];

		forget(f);
		if (one->topic != NULL)
			bus__trie_match_topic(&f->trie, one->text, meet_filter, f);
		for (unsigned k = 0; k < f->count && one->topic != NULL; k++)
			must(f->names[k].met == (f->names[k].filter != NULL &&
						    naive_match(f->names[k].text, one->text)));
		forget(f);
		if (one->filter != NULL)
			bus__trie_match_filter(&f->trie, one->text, meet_topic, f);
		for (unsigned k = 0; k < f->count && one->filter != NULL; k++)
			must(f->names[k].met == (f->names[k].topic != NULL &&
						    naive_match(one->text, f->names[k].text)));
	}
}

static void
fell(struct forest *f, struct name *name)
{
	char back[BUS_LIMIT_TOPIC_BYTES + 1];

	if (name->filter != NULL) {
		bus__trie_name(name->filter, back);
		must(strcmp(back, name->text) == 0);
		name->filter->subs = NULL;
	}
	if (name->topic != NULL)
		bus__trie_set_topic(name->topic, NULL);
	/* A filter and a topic of the same name end at the same node. */
	if (name->filter != NULL)
		bus__trie_prune(&f->trie, name->filter);
	else if (name->topic != NULL)
		bus__trie_prune(&f->trie, name->topic);
	name->filter = name->topic = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint64_t key[2] = {1, 2};
	const char *at = (const char *)data, *end = at + len;
	static struct forest f;

	f.count = 0;
	must(bus__trie_init(&f.trie, key) == 0);
	while (at < end && f.count < MOST) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t size = (size_t)((stop != NULL ? stop : end) - at);

		plant(&f, at, size);
		at += size + 1;
	}
	compare(&f);
	for (unsigned i = 0; i < f.count; i += 2)
		fell(&f, &f.names[i]);
	compare(&f);
	for (unsigned i = 0; i < f.count; i++) {
		fell(&f, &f.names[i]);
		free(f.names[i].text);
	}
	must(f.trie.edge_count == 0);
	bus__trie_fini(&f.trie);
	return 0;
}
