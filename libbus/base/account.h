/* base/account.h: the memory that one peer makes this bus hold, in bytes.
 *
 * Each object that exists at a peer's request is added to the peer's account when it is allocated and taken off when its memory
 * is freed, however long frames and handles hold it: the names that the peer made, its kept values, its filters, the routes
 * that lead to them (or from its topics to mailboxes here), and its open questions. Bytes are the allocator's, rounded up, and
 * trie levels count for each name, shared or not, so the sum is never below the memory held.
 *
 * Adding never fails. The caller that makes something for a peer asks bus__account_is_full() or _is_over() first, and refuses.
 * Others may bring an account over its bound, too: a new topic here that many filters match. Then `over` is called.
 *
 * An account lives as long as an object on it: values outlive their peer. Threads: any, unless stated otherwise. */
#ifndef BUS_BASE_ACCOUNT_H
#define BUS_BASE_ACCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus__account {
	_Atomic uint64_t used, most;
	_Atomic uint32_t refs;
	uint32_t topics; /* its topics still in the table; bus lock */
	/* Called by the thread that brings it over its bound, under the bus lock or on the link thread. */
	void (*over)(void *arg);
	void *arg;
};

/* Opens an account with one reference. NULL: out of memory. */
struct bus__account *bus__account_open(uint64_t most, void (*over)(void *arg), void *arg);
struct bus__account *bus__account_ref(struct bus__account *account);
void bus__account_unref(struct bus__account *account); /* NULL is fine for both */

/* Adds an object, with a reference, and takes it off. NULL is fine: no account. */
void bus__account_add(struct bus__account *account, size_t bytes);
void bus__account_sub(struct bus__account *account, size_t bytes);

/* Whether it is above its bound. NULL is fine: it has none. */
bool bus__account_is_over(const struct bus__account *account);

/* Whether there is no room for values and names of `bytes`, which replace `freed` bytes of others. An eighth of the bound is
 * reserved for filters, so that a peer that has published its most can still join. */
bool bus__account_is_full(const struct bus__account *account, size_t bytes, size_t freed);

/* What an allocation of that size takes. */
static inline size_t
bus__held(size_t size)
{
	size_t held = (size + 8 + 15) & ~(size_t)15;

	return held < 32 ? 32 : held;
}

#endif
