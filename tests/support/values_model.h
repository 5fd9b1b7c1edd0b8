/* support/values_model.h: which value each bus of a few should have of each topic, after each step: what docs/delivery.md says,
 * without clocks, logs, mailboxes or connections. A walk tells a bus what another has, if it was not told that. */
#ifndef VALUES_MODEL_H
#define VALUES_MODEL_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MODEL_BUSES = 3, MODEL_TOPICS = 6, MODEL_TEXT = 24 };
enum model_kind {
	MODEL_LIVE,
	MODEL_KEPT,
	MODEL_INITIAL,
	MODEL_FIRST /* initial, and they had not met */
};

struct model_value {
	uint64_t changes, theirs;
	uint8_t bus[16];
	char text[MODEL_TEXT]; /* empty: deleted */
};

struct values_model {
	unsigned buses;
	uint8_t id[MODEL_BUSES][16];
	bool linked[MODEL_BUSES][MODEL_BUSES], met[MODEL_BUSES][MODEL_BUSES];
	bool told[MODEL_BUSES][MODEL_BUSES][MODEL_TOPICS];
	struct model_value at[MODEL_BUSES][MODEL_TOPICS];
};

static void model_hear(struct values_model *m, unsigned from, unsigned to, unsigned topic,
    struct model_value value, enum model_kind kind);

static inline bool
model_is_of(const struct values_model *m, const struct model_value *value, unsigned bus)
{
	return value->changes > 0 && memcmp(value->bus, m->id[bus], sizeof value->bus) == 0;
}

static inline void
model_walk(struct values_model *m, unsigned from, unsigned to)
{
	for (unsigned topic = 0; topic < MODEL_TOPICS; topic++)
		if (m->linked[from][to] && !m->told[from][to][topic]) {
			m->told[from][to][topic] = true;
			model_hear(m, from, to, topic, m->at[from][topic], MODEL_KEPT);
		}
}

/* What a bus has from now on; it tells all if that is a change of its own that has another number. */
static inline void
model_set(struct values_model *m, unsigned bus, unsigned topic, const struct model_value *value,
    bool tell)
{
	m->at[bus][topic] = *value;
	for (unsigned to = 0; to < m->buses; to++)
		m->told[bus][to][topic] = false;
	for (unsigned to = 0; tell && to < m->buses; to++)
		model_walk(m, bus, to);
}

static inline void
model_hear(struct values_model *m, unsigned from, unsigned to, unsigned topic,
    struct model_value value, enum model_kind kind)
{
	struct model_value has = m->at[to][topic];
	bool by_maker = model_is_of(m, &value, from), is_back = model_is_of(m, &value, to);
	bool is_ours = model_is_of(m, &has, to), is_theirs = model_is_of(m, &has, from);
	int order = memcmp(value.bus, has.bus, sizeof has.bus);

	if (value.changes != has.changes)
		order = value.changes < has.changes ? -1 : 1;
	value.theirs = by_maker ? value.changes : 0;
	if (order > 0 && is_ours && (is_back || (kind == MODEL_FIRST && !by_maker))) {
		has.changes = value.changes + (!is_back || strcmp(has.text, value.text) != 0);
		model_set(m, to, topic, &has, true);
	} else if (order > 0) {
		model_set(m, to, topic, &value, is_back);
	} else if (by_maker &&
		   (is_theirs ? value.changes > has.theirs && (order < 0 || kind == MODEL_LIVE ||
								  strcmp(value.text, has.text) != 0)
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
	for (unsigned to = 0; to < m->buses; to++)
		m->told[bus][to][topic] = m->linked[bus][to];
	for (unsigned to = 0; to < m->buses; to++)
		if (m->linked[bus][to])
			model_hear(m, bus, to, topic, value, MODEL_LIVE);
}

/* Two buses meet (MODEL_INITIAL), or hear what was held between them (MODEL_LIVE), and each says what it has; or they part. */
static inline void
model_link(struct values_model *m, unsigned left, unsigned right, bool linked, enum model_kind kind)
{
	if (linked && kind == MODEL_INITIAL && !m->met[left][right])
		kind = MODEL_FIRST;
	m->linked[left][right] = m->linked[right][left] = false;
	m->met[left][right] = m->met[right][left] |= linked;
	for (unsigned topic = 0; topic < MODEL_TOPICS; topic++) {
		struct model_value value = m->at[left][topic];
		bool from_left = !m->told[left][right][topic] || kind != MODEL_LIVE;
		bool from_right = !m->told[right][left][topic] || kind != MODEL_LIVE;

		m->told[left][right][topic] = m->told[right][left][topic] = true;
		if (linked && from_right)
			model_hear(m, right, left, topic, m->at[right][topic], kind);
		if (linked && from_left)
			model_hear(m, left, right, topic, value, kind);
	}
	m->linked[left][right] = m->linked[right][left] = linked;
	model_walk(m, left, right);
	model_walk(m, right, left);
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

/* Whether all are linked, so that they are to agree. */
static inline bool
model_is_whole(const struct values_model *m)
{
	for (unsigned left = 0; left < m->buses; left++)
		for (unsigned right = 0; right < left; right++)
			if (!m->linked[left][right])
				return false;
	return true;
}

#endif
