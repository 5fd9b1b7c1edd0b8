/* base/secret.h: comparing and wiping secrets. */
#ifndef BUS_BASE_SECRET_H
#define BUS_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Compares in a time that depends on len alone. */
bool bus__same_secret(const void *a, const void *b, size_t len);

/* Clears a secret; the compiler cannot remove it. */
void bus__wipe(void *secret, size_t len);

#endif
