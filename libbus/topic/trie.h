/* topic/trie.h: one tree of levels for topics and filters, so that each finds the other.
 *
 * A node is a level under its parent; `+` and `#` are nodes like others. A topic hangs at the node where
 * its name ends, a filter's subscriptions where the filter ends. Edges are looked up in one keyed hash
 * over (parent, level), so a node with a million children costs no more than one with two. Walks keep
 * their own stack, bounded by the 32 levels of a name, and come to a node at most once: each is reached by
 * one path of levels only. So no set of filters makes a walk longer than that set has levels in all.
 * Everything here happens under the bus lock. */
#ifndef BUS_TOPIC_TRIE_H
#define BUS_TOPIC_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus_sub;
struct topic;

struct node {
	struct node *parent;
	/* Children and siblings with topics, there or deeper: the others would only be in the way. */
	struct node *first_child, *next, *prev;
	struct node *hash_next;
	uint64_t hash;
	struct topic *topic;   /* the topic whose name ends here */
	struct bus_sub *subs;  /* the subscriptions whose filter ends here, oldest first */
	uint32_t topics_below; /* here and deeper */
	uint32_t wanted;       /* how many of subs are not those of peers */
	uint32_t children;     /* all of them */
	uint16_t len;
	bool plus, many; /* there are children `+` and `#` */
	char level[];
};

struct trie {
	uint64_t key[2];
	uint64_t plus, many; /* the hashes of these levels */
	struct node *root;
	struct node **edges; /* hash table */
	size_t edge_slots, edge_count;
};

/* 0 or BUS_E_NOMEM. The key must be secret and random. */
int bus__trie_init(struct trie *trie, const uint64_t key[2]);
void bus__trie_fini(struct trie *trie);

/* Finds the node where name ends, NULL: there is none. */
struct node *bus__trie_find(struct trie *trie, const char *name);

/* The same, making what is missing. NULL: out of memory, and nothing was changed. */
struct node *bus__trie_make(struct trie *trie, const char *name);

/* The bytes of the nodes that lead to name, as if it shared none. */
size_t bus__trie_bytes(const char *name);

/* Hangs a topic in, or (NULL) takes it out. */
void bus__trie_set_topic(struct node *node, struct topic *topic);

/* Frees the node if nothing hangs there or below, and its parents likewise. */
void bus__trie_prune(struct trie *trie, struct node *node);

/* Calls fn for every node with subscriptions whose filter matches the topic. */
void bus__trie_match_topic(
    struct trie *trie, const char *topic, void (*fn)(void *arg, struct node *filter), void *arg);

/* Calls fn for every topic that the filter matches. fn must not change the trie. */
void bus__trie_match_filter(
    struct trie *trie, const char *filter, void (*fn)(void *arg, struct topic *topic), void *arg);

/* Calls fn for every node in one place of the table of edges, counted on beyond its end. */
void bus__trie_look(
    struct trie *trie, size_t place, void (*fn)(void *arg, struct node *node), void *arg);

/* Calls fn for every node. */
void bus__trie_walk(struct trie *trie, void (*fn)(void *arg, struct node *node), void *arg);

/* Writes the name that ends at node into text, which holds BUS_LIMIT_TOPIC_BYTES + 1. */
void bus__trie_name(const struct node *node, char *text);

#endif
