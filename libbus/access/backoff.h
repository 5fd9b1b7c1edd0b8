/* access/backoff.h: who has failed to log in, and how long it has to wait before it may try again. After five failures in a row a
 * second, doubling with each further one up to a minute. A success of the one user that failed, or ten minutes without a failure, forgives all.
 *
 * An IPv4 address stands for itself, an IPv6 one for its /64, which one household has. On loopback the addresses are all
 * the same, so there each user name counts for itself. Pure: the caller has the clock, which may begin anywhere. */
#ifndef BUS_ACCESS_BACKOFF_H
#define BUS_ACCESS_BACKOFF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	BUS__BACKOFF_MOST =
	    1024, /* addresses; of more, the one that failed the longest time ago is forgotten */
	BUS__BACKOFF_FREE = 5, /* failures without a wait */
	BUS__BACKOFF_FIRST_MS = 1000,
	BUS__BACKOFF_LAST_MS = 60000,
	BUS__BACKOFF_FORGIVEN_MS = 600000
};

struct bus__backoff;

/* NULL: out of memory. */
struct bus__backoff *bus__backoff_new(void);
void bus__backoff_free(struct bus__backoff *backoff); /* NULL is fine */

/* How many milliseconds the peer has yet to wait; 0: it may try. addr NULL: it has none, as on ipc://. user NULL or "": it is not
 * known yet; on loopback nothing is then. */
int64_t bus__backoff_wait(const struct bus__backoff *backoff, const struct sockaddr *addr,
    const char *user, int64_t now_ms);

void bus__backoff_failed(
    struct bus__backoff *backoff, const struct sockaddr *addr, const char *user, int64_t now_ms);
void bus__backoff_succeeded(
    struct bus__backoff *backoff, const struct sockaddr *addr, const char *user);

/* How many it remembers, for tests. */
size_t bus__backoff_count(const struct bus__backoff *backoff);

#endif
