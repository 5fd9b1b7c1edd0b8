/* link/guard.h: the users and rights of a listening link, and the login of a dialling one. */
#ifndef BUS_LINK_GUARD_H
#define BUS_LINK_GUARD_H

#include <stdbool.h>

#include <libbus/transport.h>

#include "access/acl.h"
#include "access/hasher.h"
#include "access/users.h"
#include "link/loop.h"

struct bus__guard {
	/* Dialling. */
	char *user, *password; /* both or neither */
	struct bus__hash_job
	    job; /* the keys of the password, for the salt that the peer named last */
	struct bus__task hashed;   /* job is done */
	bool is_hashing, has_keys; /* job runs; job.keys are those of job.salting */

	/* Listening. The link thread replaces both when the files are read again. */
	char *users_file, *acl_file;
	struct bus__users *users; /* NULL: peers need no login */
	struct bus__acl *acl;     /* NULL: every peer may read and write everything */
};

/* Copies the texts and reads the files. guard is zeroed before. 0, or the error of the setting or the file, with its sentence.
 * In both cases the caller ends it by bus__guard_fini().
 * Threads: any.  Blocks: for the files. */
int bus__guard_init(
    struct bus__guard *guard, const char *url, const struct bus_link_config *cfg, bool dials);
void bus__guard_fini(struct bus__guard *guard);

/* Reads the files again. 0 or an error with its sentence, and then nothing is returned.
 * Threads: any.  Blocks: for the files. */
int bus__guard_read(
    const struct bus__guard *guard, struct bus__users **ret_users, struct bus__acl **ret_acl);

/* Ends the hashing under way, so that guard may be freed. Threads: any but the hasher's; no other uses the guard. */
void bus__guard_stop(struct bus__guard *guard);

#endif
