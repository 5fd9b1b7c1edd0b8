/* link/url.h: an address as text and as parts. Pure: nothing is looked up, nothing is touched. */
#ifndef BUS_LINK_URL_H
#define BUS_LINK_URL_H

#include <stdint.h>

enum bus__url_limit {
	BUS__URL_SCHEME = 16, /* bytes with the NUL, as below */
	BUS__URL_NAME = 256,  /* of an inproc name, a path or a host */
	BUS__URL_PATH = 108,  /* sun_path of a Unix socket */
	BUS__URL_TEXT = 320
};

struct bus__address {
	char scheme[BUS__URL_SCHEME];
	char name
	    [BUS__URL_NAME]; /* inproc: name; ipc: path; tcp: host, an IPv6 one without its [ ] */
	uint16_t port;       /* tcp only */
};

/* Splits url. BUS_E_SCHEME: no scheme of ours; BUS_E_ADDRESS: what follows is malformed. */
int bus__url_parse(const char *url, struct bus__address *ret_addr);

/* Writes addr as an url of at most BUS__URL_TEXT bytes. */
void bus__url_write(const struct bus__address *addr, char ret_text[BUS__URL_TEXT]);

#endif
