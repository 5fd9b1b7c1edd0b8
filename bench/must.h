/* must.h: what ends a program of the benchmark when a system call fails. */
#ifndef BENCH_MUST_H
#define BENCH_MUST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline void
must(bool fine, const char *what)
{
	if (fine)
		return;
	perror(what);
	exit(1);
}

#endif
