#include "crypto/psk.h"

#include <ctype.h>
#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "crypto/mbed.h"

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The length of the line at `text`, without blanks at its end. */
static int
parse_line(const char *text, size_t len, struct bus__psk *ret_psk)
{
	const char *colon = memchr(text, ':', len);
	const char *hex = colon + 1, *end = text + len;
	size_t name = colon != NULL ? (size_t)(colon - text) : 0;

	if (name == 0 || name >= sizeof ret_psk->identity)
		return BUS_E_TLS;
	for (size_t i = 0; i < name; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return BUS_E_TLS;
	memcpy(ret_psk->identity, text, name);
	for (; end - hex >= 2; hex += 2) {
		if (digit(hex[0]) < 0 || digit(hex[1]) < 0 || ret_psk->key_len == BUS__PSK_MOST)
			return BUS_E_TLS;
		ret_psk->key[ret_psk->key_len++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
	}
	return hex == end && ret_psk->key_len >= BUS__PSK_LEAST ? 0 : BUS_E_TLS;
}

static int
add_line(const char *text, size_t len, struct bus__psk ***last)
{
	struct bus__psk *psk = bus__calloc(1, sizeof *psk);
	int err;

	if (psk == NULL)
		return BUS_E_NOMEM;
	err = parse_line(text, len, psk);
	if (err < 0) {
		bus__psk_free(psk);
		return err;
	}
	**last = psk;
	*last = &psk->next;
	return 0;
}

int
bus__psk_parse(const char *text, struct bus__psk **ret_keys, unsigned *ret_line)
{
	struct bus__psk *keys = NULL, **last = &keys;
	unsigned line = 0;
	int err = 0;

	while (*text != '\0' && err == 0) {
		const char *next = text + strcspn(text, "\n");
		size_t len;

		line++;
		while (text < next && isspace((unsigned char)*text))
			text++;
		len = (size_t)(next - text);
		while (len > 0 && isspace((unsigned char)text[len - 1]))
			len--;
		if (len > 0 && text[0] != '#')
			err = add_line(text, len, &last);
		text = *next == '\n' ? next + 1 : next;
	}
	if (err < 0) {
		bus__psk_free(keys);
		*ret_line = line;
		return err;
	}
	*ret_keys = keys;
	return 0;
}

void
bus__psk_free(struct bus__psk *keys)
{
	struct bus__psk *next;

	for (; keys != NULL; keys = next) {
		next = keys->next;
		mbedtls_platform_zeroize(keys, sizeof *keys);
		bus__free(keys);
	}
}

const struct bus__psk *
bus__psk_find(const struct bus__psk *keys, const void *identity, size_t len)
{
	while (keys != NULL &&
	       (strlen(keys->identity) != len || memcmp(keys->identity, identity, len) != 0))
		keys = keys->next;
	return keys;
}
