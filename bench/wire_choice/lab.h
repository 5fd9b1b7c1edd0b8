/* wire_choice/lab.h: experiments in child processes, each with a watchdog.
 * NNG may hang or abort, so the program itself never calls it: children do, and report on one shared
 * page. Benchmarks only; these children leave by _exit(). */
#ifndef WIRE_CHOICE_LAB_H
#define WIRE_CHOICE_LAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LAB_URL_BYTES = 128, LAB_ROUNDS_MAX = 31 };

/* What the ends of one experiment know of each other; zeroed before each. */
struct lab_page {
	char url[LAB_URL_BYTES]; /* where the listening end really listens */
	atomic_bool listening;   /* url is set */
	atomic_bool receiving;   /* the first bytes have come through */
	atomic_bool stop;
	atomic_ulong done;   /* progress: what the watchdog looks at */
	atomic_ulong failed; /* calls that reported an error */
	double result;
};
extern struct lab_page *lab_page;

/* Makes the page and a directory for sockets; false: the system refused. */
bool lab_open(void);
void lab_close(void);

/* Clears the page and writes an address that nobody used yet: "ipc" or "tcp". */
void lab_begin(const char *transport, char ret_url[LAB_URL_BYTES]);

/* Runs fn(arg) in a child that dies with this process. */
pid_t lab_spawn(void (*fn)(void *arg), void *arg);

/* Waits for a child; kills it when page->done has not moved for stall_ms. Returns its wait status. */
int lab_wait(pid_t child, int stall_ms);
void lab_kill(pid_t child);

int64_t lab_now_us(void);
void lab_nap_us(long us);

/* Numbers of one quantity, one per round. */
struct lab_series {
	int count;
	double at[LAB_ROUNDS_MAX];
};
void lab_add(struct lab_series *series, double value);
double lab_median(const struct lab_series *series);

/* "median (least–most)", in one of four buffers used in turn. */
const char *lab_text(const struct lab_series *series, int decimals);

#endif
