/* crypto/files.h: files that hold secrets, and their default directory. */
#ifndef BUS_CRYPTO_FILES_H
#define BUS_CRYPTO_FILES_H

#include <stdbool.h>
#include <stddef.h>

enum { BUS__FILE_MOST = 1 << 20 /* bytes: a larger file is refused */ };

/* Reads a whole file; a NUL follows, which *ret_len does not count. `secret`: refuses a file that other users can read.
 * 0; BUS_E_NOMEM; BUS_E_TLS with the reason, which begins with the path, in ret_reason. */
int bus__file_read(const char *path, bool secret, unsigned char **ret_data, size_t *ret_len,
    char *ret_reason, size_t reason_cap);

/* Wipes and frees the data of _read(). */
void bus__file_free(unsigned char *data, size_t len);

/* $XDG_CONFIG_HOME/libbus/name, or ~/.config/libbus/name. A new text, or NULL: no memory or no home. */
char *bus__file_default(const char *name);

#endif
