/* access/acl.h: which topics a user may read and write, by a file in Mosquitto's form:
 *
 *   topic read public/#          before the first user: for peers without a user
 *   user pico
 *   topic write sensors/pico/#   read, write, readwrite (also the default) or deny
 *   topic deny sensors/pico/raw
 *   pattern readwrite home/%u/#  for every user; %u is a whole level: the user's name
 *
 * A topic that no line allows is denied, and deny wins over every other line. Topics that begin with $ belong to one bus: no
 * line allows them. Immutable once loaded.
 * Threads: any, for all calls; the last unref follows all other calls. */
#ifndef BUS_ACCESS_ACL_H
#define BUS_ACCESS_ACL_H

#include <stdbool.h>
#include <stddef.h>

enum {
	BUS__ACL_BYTES = 1024 * 1024, /* of a file */
	BUS__ACL_RULES = 10000,       /* lines that allow or deny */
	BUS__ACL_USER = 64,           /* bytes of a name */
	BUS__ACL_ERROR = 512          /* of an error text, with its NUL */
};

struct bus__acl;

/* Loads a file. 0 and one reference, or BUS_E_NOMEM, BUS_E_SYS (it cannot be read) and BUS_E_INVAL (a bad line, or too large)
 * with a sentence that names the line and the remedy.
 * Blocks: for the file. */
int bus__acl_load(const char *path, struct bus__acl **ret_acl, char ret_error[BUS__ACL_ERROR]);

/* The same from memory; the sentence calls it `name`. */
int bus__acl_parse(const char *name, const void *bytes, size_t len, struct bus__acl **ret_acl,
    char ret_error[BUS__ACL_ERROR]);

struct bus__acl *bus__acl_ref(struct bus__acl *acl);
void bus__acl_unref(struct bus__acl *acl); /* NULL is fine */

/* acl NULL: everything but $ is allowed. user NULL or "": the peer gave no user. The topic or filter is well-formed. */
bool bus__acl_may_read(const struct bus__acl *acl, const char *user, const char *topic);
bool bus__acl_may_write(const struct bus__acl *acl, const char *user, const char *topic);

/* Whether the filter can match a topic that the user may read. */
bool bus__acl_may_subscribe(const struct bus__acl *acl, const char *user, const char *filter);

#endif
