#include "link/url.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <libbus/error.h>

#include "base/utf8.h"

/* Printable text: an address ends up in logs and in terminals. */
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
parse_inproc(const char *rest, struct bus__address *addr)
{
	return copy_name(rest, strlen(rest), sizeof addr->name, addr->name);
}

static bool
parse_ipc(const char *rest, struct bus__address *addr)
{
	size_t len = strlen(rest);

	return rest[0] == '/' && rest[len - 1] != '/' &&
	       copy_name(rest, len, BUS__URL_PATH, addr->name);
}

static bool
parse_tcp(const char *rest, struct bus__address *addr)
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

static const struct {
	const char *scheme;
	bool (*parse)(const char *rest, struct bus__address *addr);
} schemes[] = {
    {"inproc", parse_inproc},
    {"ipc", parse_ipc},
    {"tcp", parse_tcp},
};

int
bus__url_parse(const char *url, struct bus__address *ret_addr)
{
	struct bus__address addr = {.port = 0};
	const char *rest = strstr(url, "://");

	if (rest == NULL)
		return BUS_E_SCHEME;
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		size_t len = strlen(schemes[i].scheme);

		if ((size_t)(rest - url) != len || memcmp(url, schemes[i].scheme, len) != 0)
			continue;
		memcpy(addr.scheme, url, len);
		if (!schemes[i].parse(rest + 3, &addr))
			return BUS_E_ADDRESS;
		*ret_addr = addr;
		return 0;
	}
	return BUS_E_SCHEME;
}

void
bus__url_write(const struct bus__address *addr, char ret_text[BUS__URL_TEXT])
{
	if (strcmp(addr->scheme, "tcp") != 0)
		snprintf(ret_text, BUS__URL_TEXT, "%s://%s", addr->scheme, addr->name);
	else if (strchr(addr->name, ':') != NULL)
		snprintf(ret_text, BUS__URL_TEXT, "tcp://[%s]:%u", addr->name, addr->port);
	else
		snprintf(ret_text, BUS__URL_TEXT, "tcp://%s:%u", addr->name, addr->port);
}
