/* support/wrong_clock.h: in the program that includes it each thread has a wall clock of its own, which is wrong by hours. */
#ifndef WRONG_CLOCK_H
#define WRONG_CLOCK_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* By how much this thread's is; set, or by its number, from -24 to 24 hours. */
static _Thread_local int64_t wrong_by_s = INT64_MAX;

/* Takes the place of the C library's, for everything that is linked into the program. */
int
clock_gettime(clockid_t id, struct timespec *ret_time)
{
	int answer = (int)syscall(SYS_clock_gettime, id, ret_time);

	if (answer < 0 || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
		return answer;
	if (wrong_by_s == INT64_MAX)
		wrong_by_s = (int64_t)(syscall(SYS_gettid) * 7 % 49 - 24) * 3600;
	ret_time->tv_sec += (time_t)wrong_by_s;
	return answer;
}

#endif
