/* support/values_model.h: which value each bus of a few should have of each topic, after each step: what docs/delivery.md says,
 * without clocks, logs, mailboxes or connections. */
#ifndef VALUES_MODEL_H
#define VALUES_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MODEL_BUSES = 3, MODEL_TOPICS = 6, MODEL_TEXT = 24 };

struct model_value {
	uint64_t changes;
	uint8_t bus[16];
	char text[MODEL_TEXT]; /* empty: deleted */
};

struct values_model {
	unsigned buses;
	uint8_t id[MODEL_BUSES][16];
	bool linked[MODEL_BUSES][MODEL_BUSES];
	struct model_value at[MODEL_BUSES][MODEL_TOPICS];
};

static inline bool
model_is_newer(const struct model_value *value, const struct model_value *than)
{
	if (value->changes != than->changes)
		return value->changes > than->changes;
	return memcmp(value->bus, than->bus, sizeof value->bus) > 0;
}

static inline void
model_hand_over(struct values_model *m, unsigned from, unsigned to, unsigned topic)
{
	if (model_is_newer(&m->at[from][topic], &m->at[to][topic]))
		m->at[to][topic] = m->at[from][topic];
}

/* Publishes: every bus that is linked hears of it, and none hands it on. */
static inline void
model_publish(struct values_model *m, unsigned bus, unsigned topic, const char *text)
{
	struct model_value *value = &m->at[bus][topic];

	value->changes++;
	memcpy(value->bus, m->id[bus], sizeof value->bus);
	memset(value->text, 0, sizeof value->text);
	memcpy(value->text, text, strlen(text));
	for (unsigned to = 0; to < m->buses; to++)
		if (m->linked[bus][to])
			model_hand_over(m, bus, to, topic);
}

/* Two buses meet: each gets what the other has. */
static inline void
model_link(struct values_model *m, unsigned left, unsigned right, bool linked)
{
	m->linked[left][right] = m->linked[right][left] = linked;
	for (unsigned topic = 0; linked && topic < MODEL_TOPICS; topic++) {
		model_hand_over(m, left, right, topic);
		model_hand_over(m, right, left, topic);
	}
}

/* A bus ends and begins anew, without links. */
static inline void
model_restart(struct values_model *m, unsigned bus, const uint8_t id[16])
{
	memcpy(m->id[bus], id, sizeof m->id[bus]);
	memset(m->at[bus], 0, sizeof m->at[bus]);
	for (unsigned to = 0; to < m->buses; to++)
		model_link(m, bus, to, false);
}

/* Whether all are linked; and whether they agree. */
static inline bool
model_is_whole(const struct values_model *m)
{
	for (unsigned left = 0; left < m->buses; left++)
		for (unsigned right = 0; right < left; right++)
			if (!m->linked[left][right])
				return false;
	return true;
}

static inline bool
model_agrees(const struct values_model *m)
{
	for (unsigned bus = 1; bus < m->buses; bus++)
		for (unsigned topic = 0; topic < MODEL_TOPICS; topic++)
			if (strcmp(m->at[bus][topic].text, m->at[0][topic].text) != 0)
				return false;
	return true;
}

#endif
