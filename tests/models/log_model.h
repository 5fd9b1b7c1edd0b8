/* log_model.h: a log of a few hundred bytes, for models: members, a reader, and what becomes of them. */
#ifndef MODELS_LOG_MODEL_H
#define MODELS_LOG_MODEL_H

#include "log/log.h"
#include "log/stall.h"
#include "model.h"

enum {
	LOG_MODEL_MEMBERS = 3,
	LOG_MODEL_SEGMENT = 104 /* two records of 8 bytes, that may both name a topic */
};

extern struct log model_log[LOG_MODEL_MEMBERS]; /* of each thread */
extern bool model_dies[LOG_MODEL_MEMBERS];      /* it may, at any step of an append */

/* Makes the log, of so many segments. */
void model_log_open(uint32_t segments);
void model_log_open_with(uint32_t segments, uint64_t segment_bytes);
void model_log_close(void);

/* How many members' pins a writer looks at; all, unless that is said before it begins. */
void model_pins_end(uint32_t end);

/* As if that member asked for all places for ever: no reader gets a pin. */
void model_refuse_pins(int member);

/* Has threads append with the first member at once, which the last one is a deputy of. */
void model_one_process(void);
bool model_is_inside(
    int thread); /* of the first two: it has begun to append, or waits while the other does */
extern unsigned model_ended; /* times that a log was ended which its process had left */

/* Appends number `i` of `from` with a member's log. */
void model_append_as(int member, int from, uint64_t i);
int model_try_append_as(int member, int from, uint64_t i); /* what the log answers */

/* Appends number `i` of a member. false: it has died, and the record may be there or not. */
bool model_append(int member, uint64_t i);
bool model_is_dead(int member);

/* The topics, as a member knows them: "t", which all records have if nothing else is said, and another one, "u". */
enum { MODEL_T, MODEL_OTHER, MODEL_THIRD, MODEL_TOPICS };
extern struct log_topic model_topics[LOG_MODEL_MEMBERS][MODEL_TOPICS];

/* A record without payload. */
void model_append_to(int member, int topic);

/* A value of a topic, or (i == 0) its end. Returns its sequence; 0: there was no place for it. */
uint64_t model_keep_in(int member, int topic, uint64_t i);

/* The same as a value of the topic that all records have. Returns its sequence. */
uint64_t model_keep(int member, uint64_t i);

/* What a reader has seen. */
struct model_reader {
	struct log_cursor cursor;
	uint64_t sequence; /* that comes next */
	uint64_t next[LOG_MODEL_MEMBERS];
	uint64_t seen, lost;
	bool names;        /* it looks at them as well: all are "t" */
	uint64_t nameless; /* of which the name was gone */
};

void model_read_begin(struct model_reader *reader, int member);

/* Takes what is there and checks it: order, sequence, what was lost. */
void model_read(struct model_reader *reader);

#endif
