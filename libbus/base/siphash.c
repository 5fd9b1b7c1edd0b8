#include "base/siphash.h"

#include <string.h>

static inline uint64_t
rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* The last `len` of the 8 bytes of a word, 1 to 7, in memory order. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LAST_BYTES(word, len) ((word) >> 8 * (8 - (len)))
#else
#define LAST_BYTES(word, len) ((word)&UINT64_MAX >> 8 * (8 - (len)))
#endif

/* The last len bytes, below 8, of `whole`. */
static inline uint64_t
read_rest(const uint8_t *p, size_t len, size_t whole)
{
	uint64_t word = 0;

	if (len == 0)
		return 0;
	if (whole < 8) {
		memcpy(&word, p, len);
		return word;
	}
	/* One load that overlaps bytes already read: single bytes would have to be merged in memory. */
	memcpy(&word, p + len - 8, 8);
	return LAST_BYTES(word, len);
}

uint64_t
bus__siphash(const uint64_t key[2], const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
	    key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
	uint64_t word, last = (uint64_t)len << 56;
	size_t whole = len;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8); /* in native byte order: the hash never leaves the process */
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	last ^= read_rest(p, len, whole);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
