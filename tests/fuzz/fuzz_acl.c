/* Any bytes as an ACL file: it is refused with a sentence, or what it says of any topic is the same by each call. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "access/acl.h"

static void
must(bool condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const users[] = {NULL, "pico", "a/b", "#"};
	static const char *const topics[] = {"a", "a/b", "home/pico/x", "$bus/drops", "/"};
	char error[BUS__ACL_ERROR] = "";
	struct bus__acl *acl = NULL;
	int err = bus__acl_parse("acl", data, len, &acl, error);

	must((err == 0) == (acl != NULL) && memchr(error, 0, sizeof error) != NULL);
	if (err < 0)
		return 0;
	for (size_t u = 0; u < sizeof users / sizeof users[0]; u++) {
		for (size_t t = 0; t < sizeof topics / sizeof topics[0]; t++) {
			bool may_read = bus__acl_may_read(acl, users[u], topics[t]);

			/* A topic is a filter that matches itself. */
			must(bus__acl_may_subscribe(acl, users[u], topics[t]) == may_read);
			must(!may_read || bus__acl_may_subscribe(acl, users[u], "#"));
			must(topics[t][0] != '$' ||
			     (!may_read && !bus__acl_may_write(acl, users[u], topics[t])));
		}
		bus__acl_may_subscribe(acl, users[u], "+/+/#");
	}
	bus__acl_unref(acl);
	return 0;
}
