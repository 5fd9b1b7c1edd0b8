#include "link/guard.h"

#include <string.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/secret.h"
#include "link/terms.h"

/* The sentence of the first bad setting; NULL: all are good. No sentence contains a name or a password. */
static const char *
find_fault(const struct bus_link_config *cfg, bool dials)
{
	if (cfg->reserved != 0)
		return "reserved: leave it 0";
	if (dials && (cfg->users_file != NULL || cfg->acl_file != NULL))
		return "users_file and acl_file belong to bus_listen(): a dialling link has user and password";
	if (!dials && (cfg->user != NULL || cfg->password != NULL))
		return "user and password belong to bus_dial(): a listening link has users_file";
	if ((cfg->user == NULL) != (cfg->password == NULL))
		return "user and password go together: one of them is missing";
	if (cfg->user != NULL && !bus__user_name_ok(cfg->user, strlen(cfg->user)))
		return "user: 1 to 64 bytes of text without : / + # and control characters, no blank at its ends and no $ in front";
	if (cfg->password != NULL && !bus__password_ok(cfg->password, strlen(cfg->password)))
		return "password: 1 to 1024 bytes of text without control characters";
	if (cfg->acl_file != NULL && cfg->users_file == NULL)
		return "acl_file needs a users_file: make one with libbus user add, then set users_file to it";
	/* Clear text to other machines needs users, unless the program sets allow_insecure_remote. */
	if (!dials && cfg->allow_lan != 0 && cfg->allow_insecure_remote == 0 &&
	    cfg->users_file == NULL)
		return "allow_lan needs a users_file: make one with libbus user add, then set users_file to it";
	return NULL;
}

int
bus__guard_read(
    const struct bus__guard *guard, struct bus__users **ret_users, struct bus__acl **ret_acl)
{
	struct bus__users *users = NULL;
	struct bus__acl *acl = NULL;
	char text[BUS__ACL_ERROR];
	int err = 0;

	if (guard->users_file != NULL)
		err = bus__users_load(guard->users_file, &users);
	if (err < 0)
		return err;
	if (guard->acl_file != NULL)
		err = bus__acl_load(guard->acl_file, &acl, text);
	if (err < 0) {
		bus__users_drop(users);
		return err == BUS_E_NOMEM ? err : bus__fail(err, "%s", text);
	}
	*ret_users = users;
	*ret_acl = acl;
	return 0;
}

int
bus__guard_init(
    struct bus__guard *guard, const char *url, const struct bus_link_config *cfg, bool dials)
{
	const char *fault = find_fault(cfg, dials);
	int err;

	if (fault != NULL)
		return bus__fail(BUS_E_INVAL, BUS__SHOWN ": %s", url, fault);
	err = bus__setting_copy(cfg->user, &guard->user);
	if (err == 0)
		err = bus__setting_copy(cfg->password, &guard->password);
	if (err == 0)
		err = bus__setting_copy(cfg->users_file, &guard->users_file);
	if (err == 0)
		err = bus__setting_copy(cfg->acl_file, &guard->acl_file);
	return err == 0 ? bus__guard_read(guard, &guard->users, &guard->acl) : err;
}

void
bus__guard_stop(struct bus__guard *guard)
{
	if (guard->is_hashing)
		bus__hasher_cancel(&guard->job);
	guard->is_hashing = false;
}

void
bus__guard_fini(struct bus__guard *guard)
{
	bus__guard_stop(guard);
	bus__wipe(&guard->job.keys, sizeof guard->job.keys);
	if (guard->password != NULL)
		bus__wipe(guard->password, strlen(guard->password));
	bus__free(guard->user);
	bus__free(guard->password);
	bus__free(guard->users_file);
	bus__free(guard->acl_file);
	bus__users_drop(guard->users);
	bus__acl_unref(guard->acl);
}
