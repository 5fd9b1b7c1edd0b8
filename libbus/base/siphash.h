/* base/siphash.h: a keyed hash, so that strangers cannot choose names that collide.
 * SipHash-1-3 of Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). */
#ifndef BUS_BASE_SIPHASH_H
#define BUS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t bus__siphash(const uint64_t key[2], const void *data, size_t len);

#endif
