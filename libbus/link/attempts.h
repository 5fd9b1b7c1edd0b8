/* link/attempts.h: makes peers of a listening link wait after too many failed logins (access/backoff.h). Link thread. */
#ifndef BUS_LINK_ATTEMPTS_H
#define BUS_LINK_ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>

struct bus_link;
struct bus__stream;

/* Whether the peer has to wait. user NULL: it has not named a user yet. */
bool bus__attempt_is_early(
    const struct bus_link *link, struct bus__stream *stream, const char *user);

/* The host of a peer, as bus__reach_host(). */
uint64_t bus__attempt_host(struct bus__stream *stream);

void bus__attempt_failed(struct bus_link *link, struct bus__stream *stream, const char *user);
void bus__attempt_succeeded(struct bus_link *link, struct bus__stream *stream, const char *user);

#endif
