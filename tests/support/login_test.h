/* support/login_test.h: links with users and an ACL. */
#ifndef LOGIN_TEST_H
#define LOGIN_TEST_H

#include "link_test.h"

#include <sys/stat.h>

#include "users_test.h"

/* Writes a file in the test's directory, mode 0600. The path is valid until three more files are written. */
static inline const char *
file_of_test(const char *name, const char *text)
{
	static char paths[4][300];
	static unsigned next;
	char *path = paths[next++ % 4];
	FILE *file;

	snprintf(path, sizeof paths[0], "%s/%s", bus_test_dir(), name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
	ck_assert_int_eq(chmod(path, 0600), 0);
	return path;
}

/* Dials with this user, without a heartbeat during the test. */
static inline struct bus_link *
dial_as(struct bus *bus, const char *url, const char *user, const char *password)
{
	const struct bus_link_config cfg = {
	    .size = sizeof cfg, .heartbeat_ms = 3600000, .user = user, .password = password};
	struct bus_link *link;

	ck_bus(bus_dial(bus, url, &cfg, &link), 0);
	return link;
}

/* Closes the links and buses; messages may be left. */
static inline void
pair_end(struct pair *p)
{
	bus_link_close(p->lb);
	bus_link_close(p->la);
	ck_assert_int_ge(bus_close(p->b, patience_ms()), 0);
	ck_assert_int_ge(bus_close(p->a, patience_ms()), 0);
}

#endif
