#include "topic/trie.h"

#include <string.h>

#include <libbus/bus.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "base/account.h"
#include "topic/name.h"

#define FIRST_SLOTS 64

/* One level of a name; hashed once, however many nodes it is looked for at. */
struct level {
	const char *text;
	size_t len;
	uint64_t hash;
};

/* Cuts the level that begins at name; returns where the next one begins, NULL: it was the last. */
static const char *
cut(const struct trie *trie, const char *name, struct level *ret_level)
{
	size_t len = bus__level_len(name);

	*ret_level = (struct level){name, len, bus__siphash(trie->key, name, len)};
	return name[len] == '\0' ? NULL : name + len + 1;
}

/* Cuts a whole name; returns how many levels it has. */
static size_t
cut_all(const struct trie *trie, const char *name, struct level levels[BUS_LIMIT_TOPIC_LEVELS])
{
	size_t count = 0;

	while (name != NULL)
		name = cut(trie, name, &levels[count++]);
	return count;
}

static bool
is_wild(const struct level *level, char wildcard)
{
	return level->len == 1 && level->text[0] == wildcard;
}

static uint64_t
edge_hash(const struct node *parent, uint64_t level_hash)
{
	/* The parent's own hash stands for its whole path. */
	uint64_t h = level_hash + parent->hash * UINT64_C(0x9e3779b97f4a7c15);

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
	trie->plus = bus__siphash(key, "+", 1);
	trie->many = bus__siphash(key, "#", 1);
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
find_child(const struct trie *trie, const struct node *parent, const struct level *level)
{
	uint64_t hash = edge_hash(parent, level->hash);
	struct node *node = trie->edges[hash & (trie->edge_slots - 1)];

	for (; node != NULL; node = node->hash_next)
		if (node->hash == hash && node->parent == parent && node->len == level->len &&
		    memcmp(node->level, level->text, level->len) == 0)
			return node;
	return NULL;
}

/* The child `+` or `#`, if there is one. */
static struct node *
find_plus(const struct trie *trie, const struct node *parent)
{
	return parent->plus ? find_child(trie, parent, &(struct level){"+", 1, trie->plus}) : NULL;
}

static struct node *
find_many(const struct trie *trie, const struct node *parent)
{
	return parent->many ? find_child(trie, parent, &(struct level){"#", 1, trie->many}) : NULL;
}

/* Makes the table of edges as large as told; without memory it stays as it is, and only gets slower. */
static void
resize_edges(struct trie *trie, size_t slots)
{
	struct node **edges = bus__calloc(slots, sizeof *edges);

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
make_child(struct trie *trie, struct node *parent, const struct level *level)
{
	struct node *node = bus__calloc(1, sizeof *node + level->len + 1);
	struct node **slot;

	if (node == NULL)
		return NULL;
	memcpy(node->level, level->text, level->len);
	node->len = (uint16_t)level->len;
	node->hash = edge_hash(parent, level->hash);
	if (trie->edge_count >= trie->edge_slots)
		resize_edges(trie, trie->edge_slots * 2);
	slot = &trie->edges[node->hash & (trie->edge_slots - 1)];
	node->hash_next = *slot;
	*slot = node;
	trie->edge_count++;
	node->parent = parent;
	parent->children++;
	parent->plus |= is_wild(level, '+');
	parent->many |= is_wild(level, '#');
	return node;
}

struct node *
bus__trie_find(struct trie *trie, const char *name)
{
	struct node *node = trie->root;
	struct level level;

	while (node != NULL && name != NULL) {
		name = cut(trie, name, &level);
		node = find_child(trie, node, &level);
	}
	return node;
}

struct node *
bus__trie_make(struct trie *trie, const char *name)
{
	struct node *node = trie->root;
	struct level level;

	while (name != NULL) {
		struct node *child;

		name = cut(trie, name, &level);
		child = find_child(trie, node, &level);
		if (child == NULL)
			child = make_child(trie, node, &level);
		if (child == NULL) {
			bus__trie_prune(trie, node);
			return NULL;
		}
		node = child;
	}
	return node;
}

size_t
bus__trie_bytes(const char *name)
{
	size_t bytes = 0;

	for (;;) {
		size_t len = bus__level_len(name);

		/* And its places in the table of edges, old and new. */
		bytes += bus__held(sizeof(struct node) + len + 1) + 3 * sizeof(struct node *);
		if (name[len] == '\0')
			return bytes;
		name += len + 1;
	}
}

static void
link_sibling(struct node *node)
{
	node->next = node->parent->first_child;
	if (node->next != NULL)
		node->next->prev = node;
	node->parent->first_child = node;
}

static void
unlink_sibling(struct node *node)
{
	if (node->prev != NULL)
		node->prev->next = node->next;
	else
		node->parent->first_child = node->next;
	if (node->next != NULL)
		node->next->prev = node->prev;
	node->next = node->prev = NULL;
}

void
bus__trie_set_topic(struct node *node, struct topic *topic)
{
	node->topic = topic;
	for (; node->parent != NULL; node = node->parent)
		if (topic != NULL) {
			if (node->topics_below++ == 0)
				link_sibling(node);
		} else if (--node->topics_below == 0) {
			unlink_sibling(node);
		}
}

/* Frees a node that has neither children nor topics. */
static void
free_leaf(struct trie *trie, struct node *node)
{
	struct node **slot = &trie->edges[node->hash & (trie->edge_slots - 1)];
	const struct level level = {node->level, node->len, 0};

	while (*slot != node)
		slot = &(*slot)->hash_next;
	*slot = node->hash_next;
	trie->edge_count--;
	node->parent->children--;
	node->parent->plus &= !is_wild(&level, '+');
	node->parent->many &= !is_wild(&level, '#');
	bus__free(node);
}

void
bus__trie_prune(struct trie *trie, struct node *node)
{
	while (node != trie->root && node->children == 0 && node->topic == NULL &&
	       node->subs == NULL) {
		struct node *parent = node->parent;

		free_leaf(trie, node);
		node = parent;
	}
	if (trie->edge_slots > FIRST_SLOTS && trie->edge_count < trie->edge_slots / 8)
		resize_edges(trie, trie->edge_slots / 2);
}

/* A place of a walk: the node reached by so many levels of the name. */
struct place {
	struct node *node;
	size_t depth;
};

void
bus__trie_match_topic(
    struct trie *trie, const char *topic, void (*fn)(void *arg, struct node *filter), void *arg)
{
	struct level levels[BUS_LIMIT_TOPIC_LEVELS];
	size_t count = cut_all(trie, topic, levels);
	/* Each level replaces one place by at most two. */
	struct place stack[BUS_LIMIT_TOPIC_LEVELS + 1];
	size_t used = 0;

	stack[used++] = (struct place){trie->root, 0};
	while (used > 0) {
		struct place at = stack[--used];
		/* No wildcard matches a leading $. */
		bool wild = at.depth > 0 || topic[0] != '$';
		struct node *many = wild ? find_many(trie, at.node) : NULL;
		struct node *child;

		/* # stands for whatever follows, also for nothing: a/# matches a. */
		if (many != NULL && many->subs != NULL)
			fn(arg, many);
		if (at.depth == count) {
			if (at.node->subs != NULL)
				fn(arg, at.node);
			continue;
		}
		child = find_child(trie, at.node, &levels[at.depth]);
		if (child != NULL)
			stack[used++] = (struct place){child, at.depth + 1};
		child = wild ? find_plus(trie, at.node) : NULL;
		if (child != NULL)
			stack[used++] = (struct place){child, at.depth + 1};
	}
}

/* Whether a wildcard at the root passes over node. */
static bool
is_reserved(const struct node *node)
{
	return node->parent->parent == NULL && node->level[0] == '$';
}

/* The next node of the subtree under top in depth-first order; NULL: that was the last. */
static struct node *
next_below(const struct node *top, struct node *node, bool into)
{
	if (into && node->first_child != NULL)
		return node->first_child;
	while (node != top) {
		if (node->next != NULL)
			return node->next;
		node = node->parent;
	}
	return NULL;
}

/* Calls fn for all topics under top; under the root, but for the reserved ones. */
static void
visit_subtree(struct node *top, void (*fn)(void *arg, struct topic *topic), void *arg)
{
	struct node *node = top;
	bool into = true;

	do {
		if (node->topic != NULL && into)
			fn(arg, node->topic);
		node = next_below(top, node, into);
		into = node != NULL && !(top->parent == NULL && is_reserved(node));
	} while (node != NULL);
}

void
bus__trie_match_filter(
    struct trie *trie, const char *filter, void (*fn)(void *arg, struct topic *topic), void *arg)
{
	struct level levels[BUS_LIMIT_TOPIC_LEVELS];
	size_t count = cut_all(trie, filter, levels);
	/* The path walked so far: for each + level the child that stands for it next. */
	struct place stack[BUS_LIMIT_TOPIC_LEVELS];
	size_t used = 0;
	struct place at = {trie->root, 0};

	for (;;) {
		struct node *child = NULL;

		if (at.depth == count) {
			if (at.node->topic != NULL)
				fn(arg, at.node->topic);
		} else if (is_wild(&levels[at.depth], '#')) {
			visit_subtree(at.node, fn, arg);
		} else if (is_wild(&levels[at.depth], '+')) {
			stack[used++] = (struct place){at.node->first_child, at.depth + 1};
		} else {
			child = find_child(trie, at.node, &levels[at.depth]);
		}
		if (child != NULL && child->topics_below > 0) {
			at = (struct place){child, at.depth + 1};
			continue;
		}
		/* Nothing more this way: the next child of the deepest + that has one. */
		for (;;) {
			struct place *plus;

			if (used == 0)
				return;
			plus = &stack[used - 1];
			if (plus->node != NULL && is_reserved(plus->node))
				plus->node = plus->node->next;
			else if (plus->node != NULL)
				break;
			else
				used--;
		}
		at = stack[used - 1];
		stack[used - 1].node = at.node->next;
	}
}

void
bus__trie_look(struct trie *trie, size_t place, void (*fn)(void *arg, struct node *node), void *arg)
{
	struct node *node = trie->edges[place & (trie->edge_slots - 1)];

	for (; node != NULL; node = node->hash_next)
		fn(arg, node);
}

void
bus__trie_walk(struct trie *trie, void (*fn)(void *arg, struct node *node), void *arg)
{
	for (size_t i = 0; i < trie->edge_slots; i++)
		bus__trie_look(trie, i, fn, arg);
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
