/* bench/hostile.h */
#ifndef BENCH_HOSTILE_H
#define BENCH_HOSTILE_H

/* Prints how long honest peers wait beside 5,000 connections that never join, and what an idle link costs. About a minute. */
void measure_hostile(void);

#endif
