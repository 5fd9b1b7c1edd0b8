/* topic/near.h: how near a filter comes to a topic. */
#ifndef BUS_TOPIC_NEAR_H
#define BUS_TOPIC_NEAR_H

enum near {
	NEAR_MATCH,
	NEAR_CASE,     /* but for upper and lower case (of ASCII) */
	NEAR_SLASH,    /* but for a slash at the beginning or at the end */
	NEAR_SHORT,    /* it ends before the topic does, and lacks a # */
	NEAR_RESERVED, /* but no wildcard stands for a first level that begins with $ */
	NEAR_SURPLUS,  /* but for one level more */
	NEAR_MISSING,  /* but for one level less, before its end */
	NEAR_NAME,     /* but for a letter or two of one level */
	NEAR_LEVEL,    /* but for one level, of two at least */
	NEAR_NOT,
	NEAR_COUNT
};

/* Judges a valid filter by a valid topic: NEAR_MATCH is what the trie finds. */
enum near bus__near(const char *filter, const char *topic);

#endif
