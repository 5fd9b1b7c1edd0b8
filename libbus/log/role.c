/* log/role.c: what one member at a time does for all of them, such as listening at an address.
 *
 * A role is a lock on one byte of the lock file, which its name says: it ends with a holder that dies, also when a child that
 * it forked lives on. The byte is a keyed hash of 61 bits, so two roles do not share one. Locks are those of a process; which of its own
 * roles a process has is in a list beside. */
#include "log/log.h"

#include <string.h>

#include <libbus/error.h>

#include "base/hold.h"
#include "base/mem.h"
#include "base/siphash.h"

/* + the hash of its name: what a lock can reach has 63 bits */
#define ROLE_BYTE (INT64_C(1) << 40)
#define ROLE_MASK ((UINT64_C(1) << 61) - 1)

struct log_role {
	struct log_role *next;
	uint64_t number;
	void *hold; /* NULL: the descriptor with which the member asks has the lock */
};

static struct log_role **
find(struct log *log, uint64_t number)
{
	struct log_role **at = &log->roles;

	while (*at != NULL && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static int
take(struct log *log, uint64_t number)
{
	struct log_role *role;
	int err;

	if (*find(log, number) != NULL)
		return 0;
	role = bus__malloc(sizeof *role);
	if (role == NULL)
		return BUS_E_NOMEM;
	err = bus__log_hold_byte(log, ROLE_BYTE + (int64_t)number, &role->hold);
	if (err <= 0) {
		bus__free(role);
		return err;
	}
	role->number = number;
	role->next = log->roles;
	log->roles = role;
	return 1;
}

void
bus__log_roles_again(struct log *log)
{
	for (const struct log_role *role = log->roles; role != NULL; role = role->next)
		if (role->hold == NULL)
			bus__log_lock_byte(log, ROLE_BYTE + (int64_t)role->number);
}

int
bus__log_role_take(struct log *log, const char *name, uint64_t *ret_role)
{
	uint64_t number = bus__siphash(log->key, name, strlen(name)) & ROLE_MASK;
	int err;

	bus__log_lock_list();
	err = take(log, number);
	bus__log_unlock_list();
	if (err == 1)
		*ret_role = number;
	return err;
}

void
bus__log_role_end(struct log *log, uint64_t number)
{
	struct log_role **at, *role;

	bus__log_lock_list();
	at = find(log, number);
	role = *at;
	*at = role->next;
	if (role->hold != NULL)
		bus__hold_end(role->hold);
	else
		bus__log_unlock_byte(log, ROLE_BYTE + (int64_t)number);
	bus__log_unlock_list();
	bus__free(role);
}
