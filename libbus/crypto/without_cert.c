/* libbus/cert.h of a libbus that was built without mbedTLS, or without links. */
#include <libbus/cert.h>

#include <libbus/error.h>

#include "base/error_text.h"

static int
refuse(void)
{
	return bus__fail(BUS_E_NOTSUP,
	    "certificates: this libbus was built without mbedTLS or without links: install mbedTLS, then build libbus again with -Dlinks=enabled");
}

int
bus_cert_path(const char *dir, const char *name, char *ret_path, size_t cap)
{
	(void)dir, (void)name, (void)ret_path, (void)cap;
	return refuse();
}

int
bus_cert_server(const char *dir, const char *const *names, size_t count, uint32_t days)
{
	(void)dir, (void)names, (void)count, (void)days;
	return refuse();
}

int
bus_cert_client(const char *dir, const char *name, uint32_t days)
{
	(void)dir, (void)name, (void)days;
	return refuse();
}

int
bus_cert_psk(const char *dir, const char *identity, char *ret_line, size_t cap)
{
	(void)dir, (void)identity, (void)ret_line, (void)cap;
	return refuse();
}

int
bus_cert_describe(const char *path, char *ret_line, size_t cap)
{
	(void)path, (void)ret_line, (void)cap;
	return refuse();
}
