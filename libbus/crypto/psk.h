/* crypto/psk.h: files of pre-shared keys: lines of identity:hexkey, 16 to 32 bytes each; # begins a comment. */
#ifndef BUS_CRYPTO_PSK_H
#define BUS_CRYPTO_PSK_H

#include <stddef.h>
#include <stdint.h>

enum { BUS__PSK_IDENTITY = 128 /* bytes, with its NUL */, BUS__PSK_LEAST = 16, BUS__PSK_MOST = 32 };

struct bus__psk {
	struct bus__psk *next;
	char identity[BUS__PSK_IDENTITY];
	uint8_t key[BUS__PSK_MOST];
	size_t key_len;
};

/* Reads text into a list, in order. 0; BUS_E_NOMEM; BUS_E_TLS: *ret_line is the first bad line. */
int bus__psk_parse(const char *text, struct bus__psk **ret_keys, unsigned *ret_line);
void bus__psk_free(struct bus__psk *keys); /* wipes them */

/* NULL: there is none. */
const struct bus__psk *bus__psk_find(const struct bus__psk *keys, const void *identity, size_t len);

#endif
