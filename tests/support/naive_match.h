/* support/naive_match.h: MQTT matching, to compare with. Written from the text of MQTT 3.1.1, 4.7, and as slowly as it
 * reads: level by level, by recursion. */
#ifndef NAIVE_MATCH_H
#define NAIVE_MATCH_H

#include <stdbool.h>
#include <string.h>

static inline bool
naive_match_levels(const char *filter, const char *topic)
{
	size_t f = strcspn(filter, "/"), t = strcspn(topic, "/");

	if (strcmp(filter, "#") == 0)
		return true;
	if (!(f == 1 && filter[0] == '+') && (f != t || memcmp(filter, topic, f) != 0))
		return false;
	if (filter[f] == '\0' && topic[t] == '\0')
		return true;
	if (topic[t] == '\0')
		return strcmp(filter + f, "/#") == 0;
	return filter[f] == '/' && naive_match_levels(filter + f + 1, topic + t + 1);
}

static inline bool
naive_match(const char *filter, const char *topic)
{
	if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
		return false;
	return naive_match_levels(filter, topic);
}

#endif
