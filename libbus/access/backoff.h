/* access/backoff.h: counts failed logins, and says how long a peer has to wait before its next attempt. After five failures in
 * a row it waits a second, doubling with each further failure up to a minute. A success of the one user that failed, or ten
 * minutes without a failure, clears the count.
 *
 * An IPv4 address is counted by itself, an IPv6 address with its /64, which belongs to one household. On loopback all peers
 * share an address, so failures count by user name there. Pure: the caller passes the time, from any starting point. */
#ifndef BUS_ACCESS_BACKOFF_H
#define BUS_ACCESS_BACKOFF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	BUS__BACKOFF_MOST =
	    1024, /* addresses; a further one replaces the one whose last failure is oldest */
	BUS__BACKOFF_FREE = 5, /* failures without a wait */
	BUS__BACKOFF_FIRST_MS = 1000,
	BUS__BACKOFF_LAST_MS = 60000,
	BUS__BACKOFF_FORGIVEN_MS = 600000
};

struct bus__backoff;

/* NULL: out of memory. */
struct bus__backoff *bus__backoff_new(void);
void bus__backoff_free(struct bus__backoff *backoff); /* NULL is fine */

/* Milliseconds that the peer still has to wait; 0: it may try. addr NULL: the peer has no address, as on ipc://. user NULL or
 * "": not known yet; on loopback the result is then 0. */
int64_t bus__backoff_wait(const struct bus__backoff *backoff, const struct sockaddr *addr,
    const char *user, int64_t now_ms);

void bus__backoff_failed(
    struct bus__backoff *backoff, const struct sockaddr *addr, const char *user, int64_t now_ms);
void bus__backoff_succeeded(
    struct bus__backoff *backoff, const struct sockaddr *addr, const char *user);

/* How many it remembers, for tests. */
size_t bus__backoff_count(const struct bus__backoff *backoff);

#endif
