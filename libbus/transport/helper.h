/* transport/helper.h: work of milliseconds that the link thread must not do itself, such as the public keys of a handshake. One
 * thread does it for all buses of the process, one job after the other; it runs while there are jobs. */
#ifndef BUS_TRANSPORT_HELPER_H
#define BUS_TRANSPORT_HELPER_H

#include <stdbool.h>

struct bus__helper_job {
	void (*work)(struct bus__helper_job *job); /* on the helper's thread */
	struct bus__helper_job *next;
	bool queued;
};

/* Queues a job that is not queued yet. Without a thread it runs here.
 * Threads: any, for both. */
void bus__helper_post(struct bus__helper_job *job);

/* After the return the job neither runs nor will run. Waits for the end of a running job. */
void bus__helper_cancel(struct bus__helper_job *job);

#endif
