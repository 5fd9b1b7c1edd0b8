/* contract.h: shared by the promises. Each is a function promise_NAME() in the file of its subject. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include "door.h"

enum { MAX_PAYLOAD = 1 << 20, SMALL = 4096, MANY = 1000 };

#define FILTERS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define PROMISE(name, sentence) void promise_##name(const struct door *door);
#include "promises.def"
#undef PROMISE

/* Opens a door with a subscriber that keeps all; and closes it. */
void open_all(struct rig *rig, struct inbox *inbox, const struct door *door, const char *filter);
void close_all(struct rig *rig, struct inbox *inbox);

/* Takes the next message, which must be this text without a loss before it. */
void expect_text(struct inbox *inbox, const char *topic, const char *text, bool kept);

/* How many messages have crossed the link, once everything that rig_ready() sent is through. */
uint64_t crossed_so_far(struct rig *rig);

/* A thread that publishes numbers. */
struct sender {
	struct rig *rig;
	const char *topic;
	unsigned count; /* 0: until stop */
	uint32_t flags;
	_Atomic unsigned sent, refused;
	_Atomic bool stop;
	pthread_t thread;
};

void sender_start(struct sender *s);

/* Returns when the sender has published `count` more messages. */
void sender_more(struct sender *s, unsigned count);
void sender_stop(struct sender *s);

#endif
