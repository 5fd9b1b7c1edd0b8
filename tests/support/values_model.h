/* support/values_model.h: which value each bus of a few should have of each topic, after each step: what docs/delivery.md says,
 * without clocks, logs, mailboxes or connections. A walk tells a bus what another has, if it was not told that. */
#ifndef VALUES_MODEL_H
#define VALUES_MODEL_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MODEL_BUSES = 3, MODEL_TOPICS = 6, MODEL_TEXT = 24 };
enum model_kind { MODEL_KEPT, MODEL_LIVE, MODEL_FIRST /* kept, and the two had not met */ };

struct model_value {
	uint64_t changes, theirs;
	uint8_t bus[16];
	char text[MODEL_TEXT]; /* empty: deleted */
};

struct values_model {
	unsigned buses;
	uint8_t id[MODEL_BUSES][16];
	bool linked[MODEL_BUSES][MODEL_BUSES], met[MODEL_BUSES][MODEL_BUSES];
	bool told[MODEL_BUSES][MODEL_TOPICS][MODEL_BUSES]; /* of what it has, by it */
	struct model_value at[MODEL_BUSES][MODEL_TOPICS];
};

static void model_hear(struct values_model *m, unsigned from, unsigned to, unsigned topic,
    struct model_value value, enum model_kind kind);

static inline void
model_walk(struct values_model *m, unsigned from, unsigned to)
{
	for (unsigned topic = 0; topic < MODEL_TOPICS; topic++)
		if (m->linked[from][to] && !m->told[from][topic][to]) {
			m->told[from][topic][to] = true;
			model_hear(m, from, to, topic, m->at[from][topic], MODEL_KEPT);
		}
}

/* What a bus has from now on; it tells all if that is a change of its own that has another number. */
static inline void
model_set(struct values_model *m, unsigned bus, unsigned topic, const struct model_value *value,
    bool tell)
{
	m->at[bus][topic] = *value;
	memset(m->told[bus][topic], false, sizeof m->told[bus][topic]);
	for (unsigned to = 0; tell && to < m->buses; to++)
		model_walk(m, bus, to);
}

static inline void
model_hear(struct values_model *m, unsigned from, unsigned to, unsigned topic,
    struct model_value value, enum model_kind kind)
{
	struct model_value has = m->at[to][topic];
	bool by_maker = memcmp(value.bus, m->id[from], 16) == 0,
	     other = strcmp(value.text, has.text);
	bool is_back = memcmp(value.bus, m->id[to], 16) == 0;
	bool is_ours = memcmp(has.bus, m->id[to], 16) == 0,
	     is_theirs = memcmp(has.bus, m->id[from], 16) == 0;
	int order = value.changes != has.changes ? (value.changes < has.changes ? -1 : 1)
						 : memcmp(value.bus, has.bus, 16);

	value.theirs = by_maker ? value.changes : 0;
	if (order > 0 && is_ours && (is_back || (kind == MODEL_FIRST && !by_maker))) {
		has.changes = value.changes + (!is_back || other);
		model_set(m, to, topic, &has, true);
	} else if (order > 0) {
		model_set(m, to, topic, &value, is_back);
	} else if (by_maker &&
		   (is_theirs ? value.changes > has.theirs &&
				    (order < 0 || kind == MODEL_LIVE || other)
			      : kind == MODEL_LIVE || (kind == MODEL_FIRST && !is_ours))) {
		value.changes = has.changes + 1;
		model_set(m, to, topic, &value, false);
		model_walk(m, to, from);
	}
}

static inline void
model_publish(struct values_model *m, unsigned bus, unsigned topic, const char *text)
{
	struct model_value value = {.changes = m->at[bus][topic].changes + 1};

	memcpy(value.bus, m->id[bus], sizeof value.bus);
	memcpy(value.text, text, strlen(text));
	model_set(m, bus, topic, &value, false);
	memcpy(m->told[bus][topic], m->linked[bus], sizeof m->linked[bus]);
	for (unsigned to = 0; to < m->buses; to++)
		if (m->linked[bus][to])
			model_hear(m, bus, to, topic, value, MODEL_LIVE);
}

/* Two buses meet and each says what it has; or they part. One that was held up sends what was changed meanwhile as if now. */
static inline void
model_link(struct values_model *m, unsigned a, unsigned b, bool linked, bool held)
{
	enum model_kind kind = held ? MODEL_LIVE : m->met[a][b] ? MODEL_KEPT : MODEL_FIRST;

	m->linked[a][b] = m->linked[b][a] = false;
	m->met[a][b] = m->met[b][a] |= linked;
	for (unsigned topic = 0; topic < MODEL_TOPICS; topic++) {
		struct model_value of_a = m->at[a][topic], of_b = m->at[b][topic]; /* they cross */
		bool to_b = !held || !m->told[a][topic][b], to_a = !held || !m->told[b][topic][a];

		m->told[a][topic][b] = m->told[b][topic][a] = true;
		if (linked && to_a)
			model_hear(m, b, a, topic, of_b, kind);
		if (linked && to_b)
			model_hear(m, a, b, topic, of_a, kind);
	}
	m->linked[a][b] = m->linked[b][a] = linked;
	model_walk(m, a, b);
	model_walk(m, b, a);
}

/* A bus ends and begins anew, without links. */
static inline void
model_restart(struct values_model *m, unsigned bus, const uint8_t id[16])
{
	memcpy(m->id[bus], id, sizeof m->id[bus]);
	memset(m->at[bus], 0, sizeof m->at[bus]);
	for (unsigned to = 0; to < m->buses; to++)
		m->linked[bus][to] = m->linked[to][bus] = m->met[bus][to] = m->met[to][bus] = false;
}

#endif
