/* link/url.h: an address as text and in parts. Pure: no look-ups, no files. */
#ifndef BUS_LINK_URL_H
#define BUS_LINK_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus__transport;

enum bus__url_limit {
	BUS__URL_SCHEME = 16, /* bytes with the NUL, as below */
	BUS__URL_NAME = 256,  /* of a name, a path or a host */
	BUS__URL_PATH = 108,  /* sun_path of a Unix socket */
	BUS__URL_TEXT = 320
};

struct bus__address {
	const struct bus__transport *transport; /* of its scheme */
	char name[BUS__URL_NAME];               /* or path, or host, IPv6 without its [ ] */
	uint16_t port;                          /* of a host */
};

/* The part after "://", in the addresses of a transport. */
struct bus__form {
	bool (*parse)(const char *rest, struct bus__address *addr); /* false: malformed */
	int (*write)(
	    const struct bus__address *addr, char *ret_text, size_t cap); /* as snprintf() */
};

extern const struct bus__form bus__form_name; /* any printable text */
extern const struct bus__form bus__form_path; /* an absolute path of a socket */
extern const struct bus__form bus__form_host; /* host:port */

/* Splits url. BUS_E_SCHEME: no transport has the scheme; BUS_E_ADDRESS: the rest is malformed. */
int bus__url_parse(const char *url, struct bus__address *ret_addr);

/* Writes addr as an url of at most BUS__URL_TEXT bytes. */
void bus__url_write(const struct bus__address *addr, char ret_text[BUS__URL_TEXT]);

#endif
