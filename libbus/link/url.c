#include "link/url.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "base/utf8.h"
#include "link/transport.h"

/* Printable text only: addresses appear in logs and terminals. */
static bool
copy_name(const char *text, size_t len, size_t cap, char *ret_name)
{
	if (len == 0 || len >= cap || !bus__utf8_valid(text, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	memcpy(ret_name, text, len);
	ret_name[len] = '\0';
	return true;
}

static bool
parse_port(const char *text, uint16_t *ret_port)
{
	unsigned port = 0;
	size_t digits = strlen(text);

	if (digits == 0 || digits > 5)
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned)(*text - '0');
	}
	*ret_port = (uint16_t)port;
	return port <= UINT16_MAX;
}

static bool
parse_name(const char *rest, struct bus__address *addr)
{
	return copy_name(rest, strlen(rest), sizeof addr->name, addr->name);
}

static bool
parse_path(const char *rest, struct bus__address *addr)
{
	size_t len = strlen(rest);

	return rest[0] == '/' && rest[len - 1] != '/' &&
	       copy_name(rest, len, BUS__URL_PATH, addr->name);
}

static bool
parse_host(const char *rest, struct bus__address *addr)
{
	const char *end;

	if (rest[0] == '[') {
		rest++;
		end = strchr(rest, ']');
		return end != NULL && end[1] == ':' && memchr(rest, ':', (size_t)(end - rest)) &&
		       copy_name(rest, (size_t)(end - rest), sizeof addr->name, addr->name) &&
		       parse_port(end + 2, &addr->port);
	}
	end = strchr(rest, ':');
	return end != NULL && strpbrk(rest, "/@?# ]") == NULL &&
	       copy_name(rest, (size_t)(end - rest), sizeof addr->name, addr->name) &&
	       parse_port(end + 1, &addr->port);
}

static int
write_name(const struct bus__address *addr, char *ret_text, size_t cap)
{
	return snprintf(ret_text, cap, "%s", addr->name);
}

static int
write_host(const struct bus__address *addr, char *ret_text, size_t cap)
{
	bool is_ipv6 = strchr(addr->name, ':') != NULL;

	return snprintf(ret_text, cap, is_ipv6 ? "[%s]:%u" : "%s:%u", addr->name, addr->port);
}

const struct bus__form bus__form_name = {parse_name, write_name};
const struct bus__form bus__form_path = {parse_path, write_name};
const struct bus__form bus__form_host = {parse_host, write_host};

int
bus__url_parse(const char *url, struct bus__address *ret_addr)
{
	struct bus__address addr = {.port = 0};
	const char *rest = strstr(url, "://");

	if (rest == NULL)
		return BUS_E_SCHEME;
	addr.transport = bus__transport_find(url, (size_t)(rest - url));
	if (addr.transport == NULL)
		return BUS_E_SCHEME;
	if (!addr.transport->form->parse(rest + 3, &addr))
		return BUS_E_ADDRESS;
	*ret_addr = addr;
	return 0;
}

void
bus__url_write(const struct bus__address *addr, char ret_text[BUS__URL_TEXT])
{
	int len = snprintf(ret_text, BUS__URL_TEXT, "%s://", addr->transport->scheme);

	addr->transport->form->write(addr, ret_text + len, BUS__URL_TEXT - (size_t)len);
}
