/* base/park.h: sleep until woken, on one 32-bit word (a futex). */
#ifndef BUS_BASE_PARK_H
#define BUS_BASE_PARK_H

#include <stdatomic.h>
#include <stdint.h>

enum { BUS__INTERRUPTED = 1 };

/* Internal: a signal handler ended a wait without a limit. Public calls set a sentence for it, and return
 * BUS_E_TIMEDOUT. */
enum { BUS__E_HANDLER = -1000 };

/* Internal: an append or a send by handle would have waited longer than its thread may (base/thread.h), and sent nothing.
 * No public call of C returns it: C sets no such limit. */
enum { BUS__E_WAITS = -1002 };

/* Sleeps while *word == seen, until bus__unpark() or the deadline (monotonic ns; INT64_MAX: none).
 * May return early; 0, BUS_E_TIMEDOUT, or BUS__INTERRUPTED: a signal handler ran on this thread. */
int bus__park(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns);

/* Wakes every thread that sleeps on word. Change *word first. */
void bus__unpark(_Atomic uint32_t *word);

/* Wakes one of them. */
void bus__unpark_one(_Atomic uint32_t *word);

/* The same for a word in memory that processes share; unpark wakes all. */
int bus__park_shared(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns);
void bus__unpark_shared(_Atomic uint32_t *word);

#endif
