/* stress/stress.h: what the scenarios share: chance, claims that must hold, and threads that are held up. */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One round of a scenario: how much it is to do, and what it did. */
struct round {
	uint64_t operations; /* publishes, or claims of a ring: all threads together */
	uint64_t seed;
	uint64_t delivered, lost, refused;
};

struct scenario {
	const char *name, *does;
	unsigned share; /* of all operations */
	uint64_t most;  /* operations of one round: everything begins anew with the next one */
	void (*run)(const struct scenario *scenario, struct round *round);
	int full, drain; /* enum bus_full and bus_drain, where there is a choice */
};

/* Each file's scenarios; the list ends with one that has no name. */
extern const struct scenario ring_scenarios[], policy_scenarios[], account_scenarios[],
    ending_scenarios[], named_scenarios[];

/* Ends the program, with the line that repeats this round, unless it holds. */
#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			stress_fail(__FILE__, __LINE__, #condition, 0, 0);                         \
	} while (0)
#define must_eq(a, b)                                                                              \
	do {                                                                                       \
		uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                   \
		if (a_ != b_)                                                                      \
			stress_fail(__FILE__, __LINE__, #a " == " #b, a_, b_);                     \
	} while (0)
_Noreturn void stress_fail(
    const char *file, int line, const char *claim, uint64_t left, uint64_t right);

/* Reports progress to the watchdog. It ends the run when no operation completes within the patience of a test. */
void stress_did(uint64_t operations);

/* --- chance: the same seed gives the same numbers, whatever the schedule ------------------------------------ */

struct dice {
	uint64_t state;
};

struct dice dice_of(uint64_t seed, unsigned who);
uint32_t dice_below(struct dice *dice, uint32_t limit);

/* NOISE bytes to fill payloads with, which differ from number to number. */
enum { NOISE = 4096 };
const uint8_t *stress_noise(uint64_t number);

/* --- time --------------------------------------------------------------------------------------------------- */

void stress_nap(uint32_t us);

/* For calls that are to succeed: no limit but the watchdog's. */
int stress_patience_ms(void);

/* Seldom, and then for up to 100 µs or a whole time slice: what a preemption between two steps looks like. */
void stress_stall(struct dice *dice);

/* --- threads ------------------------------------------------------------------------------------------------ */

enum { CREW_MOST = 8 };

/* Threads that run at once. A signal stops one of them for a moment now and then, wherever it is: also between a
 * claim and its commit. */
struct crew {
	struct hand {
		struct crew *crew;
		pthread_t thread;
		void *(*run)(void *arg);
		void *arg;
	} hands[CREW_MOST];
	pthread_t tormentor;
	unsigned count;
	_Atomic unsigned ended;
	struct dice dice;
};

/* Starts run(args), run(args + size) ... */
void crew_start(struct crew *crew, uint64_t seed, unsigned count, void *(*run)(void *arg),
    void *args, size_t size);
void crew_join(struct crew *crew);

#endif
