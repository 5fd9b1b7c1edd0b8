/* access/refusals.h: the refusals of a bus, for people: the last 32 peers, and the last four kinds of refusal of each, with
 * counts and times. One table has the sentences. Pure: the caller has the lock and the clock. */
#ifndef BUS_ACCESS_REFUSALS_H
#define BUS_ACCESS_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bus__refusal {
	BUS__REFUSED_PASSWORD, /* user */
	BUS__REFUSED_NO_USER,  /* the listener asks for one */
	BUS__REFUSED_UNKNOWN, /* the name is neither stored nor shown: it may be a password in the wrong place */
	BUS__REFUSED_FILTER, /* user, if any; detail: the filter */
	BUS__REFUSED_TOPIC,  /* user, if any; detail: the topic */
	BUS__REFUSED_HTTP,   /* another protocol, by its first bytes: see bus__refusal_of_bytes() */
	BUS__REFUSED_TLS_PLAIN,   /* TLS to a listener without TLS */
	BUS__REFUSED_MQTT,        /* a client of an MQTT broker */
	BUS__REFUSED_BYTES,       /* an unknown protocol */
	BUS__REFUSED_TLS,         /* detail: the reason of the TLS error */
	BUS__REFUSED_PUBLIC,      /* from another network; the listener takes only this one */
	BUS__REFUSED_ENTRY,       /* user: the line in users_file is too weak */
	BUS__REFUSED_ATTEMPTS,    /* after failed logins: backoff.h */
	BUS__REFUSED_CONNECTIONS, /* max_peers is reached */
	BUS__REFUSED_VERSION,     /* of the wire, or a feature that the peer needs */
	BUS__REFUSED_BUS_ID,      /* another user's bus is connected under that id */
	BUS__REFUSED_ACCOUNT,     /* a process of another account of this machine */
	BUS__REFUSED_OUR_FILTER,  /* this and the next: the peer refused; detail: the filter */
	BUS__REFUSED_OUR_TOPIC,   /* detail: the topic */
	BUS__REFUSED_OUR_LOGIN,   /* user */
	BUS__REFUSED_NOT_PROVED,  /* user: the peer has not proved that it knows the password */
	BUS__REFUSED_ASKS_NOBODY, /* the peer has a user, and the listener has no users */
	BUS__REFUSAL_COUNT
};

struct bus__refused {
	enum bus__refusal reason;
	const char *where;  /* the peer's address without its port */
	const char *user;   /* a known user; NULL or "": none */
	const char *detail; /* NULL: none */
};

enum {
	BUS__REFUSED_PEERS = 32,
	BUS__REFUSED_EACH = 4,  /* kinds of refusal kept for a peer */
	BUS__REFUSED_LINE = 512 /* bytes of a line of text, with its NUL */
};

struct bus__refusals;

/* NULL: out of memory. */
struct bus__refusals *bus__refusals_new(void);
void bus__refusals_free(struct bus__refusals *refusals);

/* Notes a refusal. now_ms: since 1970. Returns the number of such refusals of this peer so far. *ret_due: publish a notice,
 * which is due once a second for each peer. */
uint64_t bus__refusals_add(struct bus__refusals *refusals, const struct bus__refused *refused,
    int64_t now_ms, bool *ret_due);

/* Calls line() for each kind of refusal of each peer, the latest peer first. */
void bus__refusals_each(
    const struct bus__refusals *refusals, void (*line)(void *arg, const char *text), void *arg);

/* The sentence of one refusal, with its remedy. */
void bus__refusal_text(const struct bus__refused *refused, char ret_text[BUS__REFUSED_LINE]);

/* The reason in one word, for programs: "password", "filter", ... */
const char *bus__refusal_word(enum bus__refusal reason);

/* The protocol of a stranger, by its first bytes. They are not those of a link. */
enum bus__refusal bus__refusal_of_bytes(const void *bytes, size_t len);

#endif
