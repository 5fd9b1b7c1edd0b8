/* model.h: a small concurrent program over the library's own text, which relacy runs in very many schedules.
 *
 * before() and after() run alone; thread(i) runs at once for every i below `threads`. A model keeps its state in
 * static variables and sets all of it in before(), since a schedule begins where the one before it ended.
 * The operations on what model_share() names are scheduled, may see old values where C11 allows that, and
 * are checked for races; so is all that bus__malloc() and its like hand out. Other memory is not checked. */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_THREADS 4 /* most in one model */

enum operation { OP_END, OP_LOAD, OP_STORE, OP_RMW, OP_CAS, OP_CLEAR, OP_ANY };

enum weakening {
	RELAXED, /* its order is memory_order_relaxed */
	SKIPPED, /* it does nothing, and says that it did */
	BLIND, /* it does not look: a CAS changes the same bits of any value, an exchange finds 0 */
	SPLIT, /* a read-modify-write is a load and then a store */
	LATE,  /* a clear happens behind the thread's next store-release */
	PLANTED /* the model does it: model_spoils() of the object's name */
};

/* A step of the library that is spoiled, after which the model must fail: the negative control. */
struct control {
	const char *name;
	const char *function; /* whose text the step is in */
	const char *object;   /* on what, as model_share() calls it; NULL: anything */
	enum operation operation;
	enum weakening weakening;
	const char *fails_as; /* relacy's word for it; several are fine */
};

struct model {
	const char *name, *shows;
	int threads;
	void (*before)(void);
	void (*thread)(int index);
	void (*after)(void);
	unsigned long schedules; /* chosen at random, always the same ones */
	unsigned switches;       /* and all with at most so many preemptions; 0: none of those */
	const struct control *controls; /* ends with one that has no name */
};

/* Every schedule within the bound is tried, not some at random: the program must be the smallest that says anything. */
extern bool model_tries_all;

/* Names what threads share. A second call inside a range that is shared already gives a part its own name. */
void model_share(const char *name, const void *begin, size_t size);

/* Lets others go on for up to `most` steps, where schedules are chosen at random: threads whose ways differ in length
 * would seldom meet otherwise. */
void model_pause(unsigned most);

/* Whether the control of that name is on, a step that is no operation on memory: the model takes its place. */
bool model_spoils(const char *name);

/* The thread that this is. */
int model_self(void);

/* A number below n, where schedules are chosen at random; otherwise 0. */
unsigned model_choose(unsigned n);

/* Fails the model unless it holds. */
#define model_check(condition)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			model_fail(#condition, __FILE__, __LINE__);                                \
	} while (0)
void model_fail(const char *condition, const char *file, int line);

#endif
