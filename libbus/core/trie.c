#include "core/trie.h"

#include <string.h>

#include <libbus/bus.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "core/name.h"

#define FIRST_SLOTS 64

static uint64_t
edge_hash(const struct trie *trie, const struct node *parent, const char *level, size_t len)
{
	/* The parent's own hash stands for its whole path. */
	uint64_t h =
	    bus__siphash(trie->key, level, len) + parent->hash * UINT64_C(0x9e3779b97f4a7c15);

	return h ^ h >> 29;
}

int
bus__trie_init(struct trie *trie, const uint64_t key[2])
{
	memset(trie, 0, sizeof *trie);
	memcpy(trie->key, key, sizeof trie->key);
	trie->root = bus__calloc(1, sizeof *trie->root + 1);
	trie->edges = bus__calloc(FIRST_SLOTS, sizeof *trie->edges);
	trie->edge_slots = FIRST_SLOTS;
	if (trie->root == NULL || trie->edges == NULL) {
		bus__free(trie->root);
		bus__free(trie->edges);
		return BUS_E_NOMEM;
	}
	trie->root->hash = bus__siphash(key, "", 0);
	return 0;
}

void
bus__trie_fini(struct trie *trie)
{
	for (size_t i = 0; i < trie->edge_slots; i++)
		for (struct node *node = trie->edges[i], *next; node != NULL; node = next) {
			next = node->hash_next;
			bus__free(node);
		}
	bus__free(trie->edges);
	bus__free(trie->root);
}

static struct node *
find_child(const struct trie *trie, const struct node *parent, const char *level, size_t len)
{
	uint64_t hash = edge_hash(trie, parent, level, len);
	struct node *node = trie->edges[hash & (trie->edge_slots - 1)];

	for (; node != NULL; node = node->hash_next)
		if (node->hash == hash && node->parent == parent && node->len == len &&
		    memcmp(node->level, level, len) == 0)
			return node;
	return NULL;
}

/* Doubles the table when it is full; without memory it only gets slower. */
static void
grow_edges(struct trie *trie)
{
	size_t slots = trie->edge_slots * 2;
	struct node **edges;

	if (trie->edge_count < trie->edge_slots)
		return;
	edges = bus__calloc(slots, sizeof *edges);
	if (edges == NULL)
		return;
	for (size_t i = 0; i < trie->edge_slots; i++)
		for (struct node *node = trie->edges[i], *next; node != NULL; node = next) {
			struct node **slot = &edges[node->hash & (slots - 1)];

			next = node->hash_next;
			node->hash_next = *slot;
			*slot = node;
		}
	bus__free(trie->edges);
	trie->edges = edges;
	trie->edge_slots = slots;
}

static struct node *
make_child(struct trie *trie, struct node *parent, const char *level, size_t len)
{
	struct node *node = bus__calloc(1, sizeof *node + len + 1);
	struct node **slot;

	if (node == NULL)
		return NULL;
	memcpy(node->level, level, len);
	node->len = (uint16_t)len;
	node->hash = edge_hash(trie, parent, level, len);
	grow_edges(trie);
	slot = &trie->edges[node->hash & (trie->edge_slots - 1)];
	node->hash_next = *slot;
	*slot = node;
	trie->edge_count++;
	node->parent = parent;
	node->next = parent->first_child;
	if (node->next != NULL)
		node->next->prev = node;
	parent->first_child = node;
	return node;
}

struct node *
bus__trie_find(struct trie *trie, const char *name)
{
	struct node *node = trie->root;

	for (;;) {
		size_t len = bus__level_len(name);

		node = find_child(trie, node, name, len);
		if (node == NULL || name[len] == '\0')
			return node;
		name += len + 1;
	}
}

struct node *
bus__trie_make(struct trie *trie, const char *name)
{
	struct node *node = trie->root;

	for (;;) {
		size_t len = bus__level_len(name);
		struct node *child = find_child(trie, node, name, len);

		if (child == NULL)
			child = make_child(trie, node, name, len);
		if (child == NULL) {
			bus__trie_prune(trie, node);
			return NULL;
		}
		node = child;
		if (name[len] == '\0')
			return node;
		name += len + 1;
	}
}

void
bus__trie_set_topic(struct node *node, struct topic *topic)
{
	uint32_t change = topic != NULL ? 1 : UINT32_MAX; /* + 1 or - 1 */

	node->topic = topic;
	for (; node != NULL; node = node->parent)
		node->topics_below += change;
}

void
bus__trie_prune(struct trie *trie, struct node *node)
{
	while (node != trie->root && node->first_child == NULL && node->topic == NULL &&
	       node->subs == NULL) {
		struct node *parent = node->parent;
		struct node **slot = &trie->edges[node->hash & (trie->edge_slots - 1)];

		while (*slot != node)
			slot = &(*slot)->hash_next;
		*slot = node->hash_next;
		trie->edge_count--;
		if (node->prev != NULL)
			node->prev->next = node->next;
		else
			parent->first_child = node->next;
		if (node->next != NULL)
			node->next->prev = node->prev;
		bus__free(node);
		node = parent;
	}
}

/* A place of a walk: the node reached, and what is left of the name; NULL: nothing is left. */
struct place {
	struct node *node;
	const char *rest;
};

void
bus__trie_match_topic(
    struct trie *trie, const char *topic, void (*fn)(void *arg, struct node *filter), void *arg)
{
	/* Each level replaces one place by at most two. */
	struct place stack[BUS_LIMIT_TOPIC_LEVELS + 2];
	size_t used = 0;
	bool reserved = topic[0] == '$';

	stack[used++] = (struct place){trie->root, topic};
	while (used > 0) {
		struct place at = stack[--used];
		bool wild =
		    !(reserved && at.node == trie->root); /* no wildcard matches a leading $ */
		struct node *many = wild ? find_child(trie, at.node, "#", 1) : NULL;
		const char *rest;
		struct node *child;
		size_t len;

		/* # stands for whatever follows, also for nothing: a/# matches a. */
		if (many != NULL && many->subs != NULL)
			fn(arg, many);
		if (at.rest == NULL) {
			if (at.node->subs != NULL)
				fn(arg, at.node);
			continue;
		}
		len = bus__level_len(at.rest);
		rest = at.rest[len] == '\0' ? NULL : at.rest + len + 1;
		child = find_child(trie, at.node, at.rest, len);
		if (child != NULL)
			stack[used++] = (struct place){child, rest};
		child = wild ? find_child(trie, at.node, "+", 1) : NULL;
		if (child != NULL)
			stack[used++] = (struct place){child, rest};
	}
}

/* The next node of the subtree under top in depth-first order; NULL: that was the last. Nodes without
 * topics below are skipped. */
static struct node *
next_below(const struct node *top, struct node *node)
{
	struct node *next = node->first_child;

	for (;;) {
		while (next != NULL && next->topics_below == 0)
			next = next->next;
		if (next != NULL)
			return next;
		if (node == top)
			return NULL;
		next = node->next;
		node = node->parent;
	}
}

static void
visit_subtree(
    struct node *top, bool reserved_too, void (*fn)(void *arg, struct topic *topic), void *arg)
{
	struct node *node = top;

	while (node != NULL) {
		if (node->topic != NULL &&
		    (reserved_too || node->parent != top || node->level[0] != '$'))
			fn(arg, node->topic);
		/* Below a reserved first level nothing counts either: go on behind it. */
		if (!reserved_too && node->parent == top && node->level[0] == '$') {
			struct node *sibling = node->next;

			while (sibling != NULL && sibling->topics_below == 0)
				sibling = sibling->next;
			node = sibling;
			continue;
		}
		node = next_below(top, node);
	}
}

void
bus__trie_match_filter(
    struct trie *trie, const char *filter, void (*fn)(void *arg, struct topic *topic), void *arg)
{
	/* The path walked so far: for each + level the child that stands for it now. */
	struct place stack[BUS_LIMIT_TOPIC_LEVELS + 1];
	size_t used = 0;
	struct node *node = trie->root;
	const char *rest = filter;

	for (;;) {
		size_t len = rest == NULL ? 0 : bus__level_len(rest);
		struct node *child = NULL;

		if (rest == NULL) {
			if (node->topic != NULL)
				fn(arg, node->topic);
		} else if (len == 1 && rest[0] == '#') {
			visit_subtree(node, node != trie->root, fn, arg);
		} else if (len == 1 && rest[0] == '+') {
			stack[used++] = (struct place){node->first_child, rest};
		} else {
			child = find_child(trie, node, rest, len);
		}
		if (child != NULL && child->topics_below > 0) {
			node = child;
			rest = rest[len] == '\0' ? NULL : rest + len + 1;
			continue;
		}
		/* Nothing more this way: the next child of the deepest + that has one. */
		for (;;) {
			struct place *plus;

			if (used == 0)
				return;
			plus = &stack[used - 1];
			while (plus->node != NULL && (plus->node->topics_below == 0 ||
							 (plus->node->parent == trie->root &&
							     plus->node->level[0] == '$')))
				plus->node = plus->node->next;
			if (plus->node != NULL) {
				node = plus->node;
				plus->node = node->next;
				rest = plus->rest[1] == '\0' ? NULL : plus->rest + 2;
				break;
			}
			used--;
		}
	}
}

void
bus__trie_walk(struct trie *trie, void (*fn)(void *arg, struct node *node), void *arg)
{
	for (size_t i = 0; i < trie->edge_slots; i++)
		for (struct node *node = trie->edges[i]; node != NULL; node = node->hash_next)
			fn(arg, node);
}

void
bus__trie_name(const struct node *node, char *text)
{
	const struct node *path[BUS_LIMIT_TOPIC_LEVELS];
	size_t levels = 0;

	for (; node->parent != NULL; node = node->parent)
		path[levels++] = node;
	while (levels > 0) {
		node = path[--levels];
		memcpy(text, node->level, node->len);
		text += node->len;
		*text++ = '/';
	}
	text[-1] = '\0';
}
