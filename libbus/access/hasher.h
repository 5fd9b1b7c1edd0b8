/* access/hasher.h: derives keys from passwords on a separate thread, since that takes from 70 ms to seconds.
 *
 * One thread per process, which runs while jobs wait. A forked child has none of its parent's jobs. */
#ifndef BUS_ACCESS_HASHER_H
#define BUS_ACCESS_HASHER_H

#include <stdbool.h>

#include "access/scram_keys.h"

enum { BUS__HASHES_MOST = 64 /* waiting jobs, per process */ };

struct bus__hash_job {
	const char *
	    password; /* set by the caller, like the next three; borrowed until done() or the cancel */
	struct bus__salting salting;
	void (*done)(void *
		arg); /* on the hasher's thread, once; it may post, but neither block nor call the hasher */
	void *arg;
	int err; /* in done(): 0, or an error of crypto/digest.h */
	struct bus__scram_keys keys;
	struct bus__hash_job *next; /* the hasher's */
};

/* Asks for job->keys. 1: they are remembered, and done() is not called. 0: done() follows. BUS_E_LIMIT: 64 jobs wait, or no
 * more threads. BUS_E_NOMEM, BUS_E_LOCKED, BUS_E_NOTSUP (no mbedTLS), BUS_E_INVAL (no password, or no salt).
 * Threads: any.  Blocks: never. */
int bus__hasher_ask(struct bus__hash_job *job);

/* Cancels a job. After the return, done() has returned or will not run, and the job may be freed. Works for any job that was
 * asked for.
 * Threads: any but inside done().  Blocks: while done() runs. */
void bus__hasher_cancel(struct bus__hash_job *job);

/* Remembers the keys of a job for later jobs with the same password and salting. Call it after the peer proved that the keys are
 * right, so that a stranger cannot fill the 64 places. Threads: any.  Blocks: never. */
void bus__hasher_remember(const struct bus__hash_job *job);

#endif
