/* link/url.h: an address as text and as parts. Pure: nothing is looked up, nothing is touched. */
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
	const struct bus__transport *transport; /* which its scheme names */
	char name[BUS__URL_NAME];               /* or path, or host, an IPv6 one without its [ ] */
	uint16_t port;                          /* of a host */
};

/* What follows "://", of a transport's addresses. */
struct bus__form {
	bool (*parse)(const char *rest, struct bus__address *addr); /* false: malformed */
	int (*write)(
	    const struct bus__address *addr, char *ret_text, size_t cap); /* as snprintf() */
};

extern const struct bus__form bus__form_name; /* any printable text */
extern const struct bus__form bus__form_path; /* an absolute path of a socket */
extern const struct bus__form bus__form_host; /* host:port */

/* Splits url. BUS_E_SCHEME: of no transport there is; BUS_E_ADDRESS: what follows is malformed. */
int bus__url_parse(const char *url, struct bus__address *ret_addr);

/* Writes addr as an url of at most BUS__URL_TEXT bytes. */
void bus__url_write(const struct bus__address *addr, char ret_text[BUS__URL_TEXT]);

#endif
