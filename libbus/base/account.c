#include "base/account.h"

#include "base/mem.h"

struct bus__account *
bus__account_open(uint64_t most, void (*over)(void *arg), void *arg)
{
	struct bus__account *account = bus__calloc(1, sizeof *account);

	if (account == NULL)
		return NULL;
	atomic_init(&account->refs, 1);
	atomic_init(&account->most, most);
	account->over = over;
	account->arg = arg;
	return account;
}

struct bus__account *
bus__account_ref(struct bus__account *account)
{
	if (account != NULL)
		atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
	return account;
}

void
bus__account_unref(struct bus__account *account)
{
	if (account != NULL &&
	    atomic_fetch_sub_explicit(&account->refs, 1, memory_order_acq_rel) == 1)
		bus__free(account);
}

void
bus__account_add(struct bus__account *account, size_t bytes)
{
	uint64_t before, most;

	if (account == NULL)
		return;
	/* Relaxed: the caller has a reference already, and the sum orders nothing. */
	atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
	before = atomic_fetch_add_explicit(&account->used, bytes, memory_order_relaxed);
	most = atomic_load_explicit(&account->most, memory_order_relaxed);
	if (before <= most && before + bytes > most && account->over != NULL)
		account->over(account->arg);
}

void
bus__account_sub(struct bus__account *account, size_t bytes)
{
	if (account == NULL)
		return;
	atomic_fetch_sub_explicit(&account->used, bytes, memory_order_relaxed);
	bus__account_unref(account);
}

bool
bus__account_is_over(const struct bus__account *account)
{
	return account != NULL && atomic_load_explicit(&account->used, memory_order_relaxed) >
				      atomic_load_explicit(&account->most, memory_order_relaxed);
}

bool
bus__account_is_full(const struct bus__account *account, size_t bytes, size_t freed)
{
	uint64_t used, most;

	if (account == NULL || (freed > 0 && bytes <= freed))
		return false;
	used = atomic_load_explicit(&account->used, memory_order_relaxed);
	most = atomic_load_explicit(&account->most, memory_order_relaxed);
	return used + bytes > most - most / 8 + freed;
}
