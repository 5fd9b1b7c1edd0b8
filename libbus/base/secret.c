#define _DEFAULT_SOURCE
#include "base/secret.h"

#include <string.h>

bool
bus__same_secret(const void *a, const void *b, size_t len)
{
	const volatile unsigned char *left = a, *right = b;
	unsigned char differs = 0;

	for (size_t i = 0; i < len; i++)
		differs |= left[i] ^ right[i];
	return differs == 0;
}

void
bus__wipe(void *secret, size_t len)
{
	explicit_bzero(secret, len);
}
