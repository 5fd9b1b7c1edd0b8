#include "access/refusals.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "value/ext.h"

enum { WHERE = 64, USER = 65, DETAIL = 160 };

#define NOTICE_PAUSE_MS 1000

/* The text of a reason: `what`, the user in quotes, the detail, then `next`, the remedy. */
static const struct sentence {
	const char *word;
	const char *what;
	const char *nobody; /* in place of a missing user; NULL: the sentence has no user */
	bool has_detail;
	const char *next;
} sentences[BUS__REFUSAL_COUNT] = {
    [BUS__REFUSED_PASSWORD] = {"password", "wrong password for", "a user", false,
	"correct the password on the peer, or set a new one with libbus user add"},
    [BUS__REFUSED_NO_USER] = {"no_user", "no user given", NULL, false,
	"give the peer a user and its password: libbus user add makes one"},
    [BUS__REFUSED_UNKNOWN] = {"unknown_user", "unknown user, not in users_file", NULL, false,
	"check the name on the peer, or add the user with libbus user add"},
    [BUS__REFUSED_FILTER] = {"filter", "filter not allowed for", "peers without a user", true,
	"add a line \"topic read ...\" to the ACL file, or subscribe to less"},
    [BUS__REFUSED_TOPIC] = {"topic", "topic not allowed for", "peers without a user", true,
	"add a line \"topic write ...\" to the ACL file, or publish on another topic"},
    [BUS__REFUSED_HTTP] = {"http", "HTTP on a port for links", NULL, false,
	"point the browser at the web server; only libbus can dial this port"},
    [BUS__REFUSED_TLS_PLAIN] = {"tls_on_plain", "TLS on a port without TLS", NULL, false,
	"dial tcp:// instead of tls://, or listen at tls://"},
    [BUS__REFUSED_MQTT] = {"mqtt", "MQTT on a port for links", NULL, false,
	"point the client at an MQTT broker, or make it use libbus"},
    [BUS__REFUSED_BYTES] = {"bytes", "bytes of an unknown protocol", NULL, false,
	"check which program connects to this port"},
    [BUS__REFUSED_TLS] = {"tls", "TLS refused", NULL, true,
	"check certificate, name and clock of both sides: libbus cert"},
    [BUS__REFUSED_PUBLIC] = {"public_address",
	"public address, but this listener accepts its own network only", NULL, false,
	"listen at tls:// for peers on other networks"},
    [BUS__REFUSED_ENTRY] = {"weak_entry", "too few iterations in users_file for", "a user", false,
	"set the password again with libbus user add"},
    [BUS__REFUSED_ATTEMPTS] = {"attempts", "too many failed attempts to log in", NULL, false,
	"correct user and password on the peer; it may try again after at most a minute"},
    [BUS__REFUSED_CONNECTIONS] = {"connections", "too many connections", NULL, false,
	"raise max_peers, or disconnect some peers"},
    [BUS__REFUSED_VERSION] = {"version", "another version of the wire protocol", NULL, false,
	"install the same libbus on both machines"},
    [BUS__REFUSED_BUS_ID] = {"bus_id", "a bus id that is connected as another user, claimed by",
	"a peer without a user", false,
	"close the other connection first; if no bus was copied, this may be an attack"},
    [BUS__REFUSED_ACCOUNT] = {"account", "a process of another account", NULL, false,
	"run both under one account, or listen at tcp:// with users"},
    [BUS__REFUSED_OUR_FILTER] = {"our_filter", "the peer does not let this bus read", NULL, true,
	"add a line \"topic read ...\" to the peer's ACL file"},
    [BUS__REFUSED_OUR_TOPIC] = {"our_topic", "the peer does not let this bus write", NULL, true,
	"add a line \"topic write ...\" to the peer's ACL file"},
    [BUS__REFUSED_OUR_LOGIN] = {"our_login", "the peer does not accept the user or password of",
	"this bus", false, "check both where this bus dials, and run libbus user list on the peer"},
    [BUS__REFUSED_NOT_PROVED] = {"not_proved",
	"the peer did not prove that it knows the password of", "this bus", false,
	"check that the address is right and that its listener has a users_file with this user"},
    [BUS__REFUSED_ASKS_NOBODY] = {"asks_nobody",
	"the peer has a user, and this listener asks for none", NULL, false,
	"give the listener a users_file, or the peer no user"},
};

struct kind {
	uint64_t count; /* 0: the place is free */
	int64_t first_ms, last_ms;
	enum bus__refusal reason;
	char detail[DETAIL];
};

struct peer {
	uint64_t used; /* 0: the place is free; the larger, the later */
	int64_t told_ms;
	char where[WHERE], user[USER];
	struct kind kinds[BUS__REFUSED_EACH];
};

struct bus__refusals {
	uint64_t uses;
	struct peer peers[BUS__REFUSED_PEERS];
};

struct bus__refusals *
bus__refusals_new(void)
{
	return bus__calloc(1, sizeof(struct bus__refusals));
}

void
bus__refusals_free(struct bus__refusals *refusals)
{
	bus__free(refusals);
}

/* Copies as much as fits, in whole characters. The peer chose the text, so control characters and bad UTF-8, which could break
 * the line, become question marks. */
static void
copy(char *to, size_t cap, const char *from)
{
	size_t len = from != NULL ? strlen(from) : 0;

	if (len >= cap)
		len = cap - 1;
	if (from != NULL && len < strlen(from))
		while (len > 0 && ((unsigned char)from[len] & 0xc0) == 0x80)
			len--;
	if (len > 0)
		memcpy(to, from, len);
	to[len] = '\0';
	if (!bus__utf8_valid(to, len))
		for (size_t i = 0; i < len; i++)
			to[i] = (unsigned char)to[i] >= 0x80 ? '?' : to[i];
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)to[i] < ' ' || to[i] == 0x7f)
			to[i] = '?';
}

const char *
bus__refusal_word(enum bus__refusal reason)
{
	return sentences[reason].word;
}

void
bus__refusal_text(const struct bus__refused *refused, char ret_text[BUS__REFUSED_LINE])
{
	const struct sentence *s = &sentences[refused->reason];
	char user[USER], detail[DETAIL];
	bool named;

	copy(user, sizeof user, refused->user);
	copy(detail, sizeof detail, refused->detail);
	named = s->nobody != NULL && user[0] != '\0';
	snprintf(ret_text, BUS__REFUSED_LINE, "%s%s%s%s%s%s%s: %s", s->what,
	    s->nobody != NULL ? " " : "", named ? "\"" : "",
	    s->nobody == NULL ? "" : (named ? user : s->nobody), named ? "\"" : "",
	    s->has_detail && detail[0] != '\0' ? ": " : "", s->has_detail ? detail : "", s->next);
}

/* Finds or adds the peer with that address and user. A new peer replaces the one whose last refusal is oldest. */
static struct peer *
find_peer(struct bus__refusals *r, const char *where, const char *user)
{
	struct peer *oldest = r->peers;

	for (size_t i = 0; i < BUS__REFUSED_PEERS; i++) {
		struct peer *peer = &r->peers[i];

		if (peer->used != 0 && strcmp(peer->where, where) == 0 &&
		    strcmp(peer->user, user) == 0)
			return peer;
		if (peer->used < oldest->used)
			oldest = peer;
	}
	*oldest = (struct peer){.told_ms = INT64_MIN};
	strcpy(oldest->where, where);
	strcpy(oldest->user, user);
	return oldest;
}

static struct kind *
find_kind(struct peer *peer, enum bus__refusal reason, const char *detail)
{
	struct kind *oldest = peer->kinds;

	for (size_t i = 0; i < BUS__REFUSED_EACH; i++) {
		struct kind *kind = &peer->kinds[i];

		if (kind->count != 0 && kind->reason == reason && strcmp(kind->detail, detail) == 0)
			return kind;
		if (oldest->count != 0 && (kind->count == 0 || kind->last_ms < oldest->last_ms))
			oldest = kind;
	}
	*oldest = (struct kind){.reason = reason};
	strcpy(oldest->detail, detail);
	return oldest;
}

uint64_t
bus__refusals_add(
    struct bus__refusals *r, const struct bus__refused *refused, int64_t now_ms, bool *ret_due)
{
	const struct sentence *s = &sentences[refused->reason];
	char where[WHERE], user[USER], detail[DETAIL];
	struct peer *peer;
	struct kind *kind;

	copy(where, sizeof where, refused->where);
	copy(user, sizeof user, s->nobody != NULL ? refused->user : NULL);
	copy(detail, sizeof detail, s->has_detail ? refused->detail : NULL);
	peer = find_peer(r, where, user);
	peer->used = ++r->uses;
	kind = find_kind(peer, refused->reason, detail);
	if (kind->count++ == 0)
		kind->first_ms = now_ms;
	kind->last_ms = now_ms;
	/* The clock may have been set back. */
	*ret_due = peer->told_ms == INT64_MIN || now_ms < peer->told_ms ||
		   now_ms - peer->told_ms >= NOTICE_PAUSE_MS;
	if (*ret_due)
		peer->told_ms = now_ms;
	return kind->count;
}

static void
write_kind(const struct peer *peer, const struct kind *kind,
    void (*line)(void *arg, const char *text), void *arg)
{
	const struct bus__refused refused = {.reason = kind->reason,
	    .where = peer->where,
	    .user = peer->user,
	    .detail = kind->detail};
	char text[WHERE + BUS__REFUSED_LINE + 128], sentence[BUS__REFUSED_LINE];
	char first[BUS__TIME_TEXT], last[BUS__TIME_TEXT];

	bus__refusal_text(&refused, sentence);
	bus__time_text(first, kind->first_ms / 1000, 0);
	bus__time_text(last, kind->last_ms / 1000, 0);
	if (kind->count == 1)
		snprintf(
		    text, sizeof text, "refused %s: %s (once, %s)", peer->where, sentence, last);
	else
		snprintf(text, sizeof text, "refused %s: %s (%llu times, %s to %s)", peer->where,
		    sentence, (unsigned long long)kind->count, first, last);
	line(arg, text);
}

void
bus__refusals_each(
    const struct bus__refusals *r, void (*line)(void *arg, const char *text), void *arg)
{
	uint64_t before = UINT64_MAX;

	for (;;) {
		const struct peer *latest = NULL;

		for (size_t i = 0; i < BUS__REFUSED_PEERS; i++)
			if (r->peers[i].used < before && r->peers[i].used != 0 &&
			    (latest == NULL || r->peers[i].used > latest->used))
				latest = &r->peers[i];
		if (latest == NULL)
			return;
		before = latest->used;
		for (size_t i = 0; i < BUS__REFUSED_EACH; i++)
			if (latest->kinds[i].count != 0)
				write_kind(latest, &latest->kinds[i], line, arg);
	}
}

/* --- other protocols -------------------------------------------------------------------------------------------- */

static bool
begins(const uint8_t *bytes, size_t len, const char *with)
{
	return len >= strlen(with) && memcmp(bytes, with, strlen(with)) == 0;
}

/* An HTTP request begins with its method. */
static bool
is_http(const uint8_t *bytes, size_t len)
{
	static const char *const methods[] = {"GET ", "HEAD ", "POST ", "PUT ", "DELETE ",
	    "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", "PRI * HTTP/2", "HTTP/"};

	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
		if (begins(bytes, len, methods[i]))
			return true;
	return false;
}

/* CONNECT: its kind, a length of one to four bytes, the length of the protocol's name, and the name. */
static bool
is_mqtt(const uint8_t *bytes, size_t len)
{
	size_t at = 1;

	if (len == 0 || bytes[0] != 0x10)
		return false;
	while (at < len && at < 4 && (bytes[at] & 0x80) != 0)
		at++;
	if (at >= len || (bytes[at++] & 0x80) != 0)
		return false;
	return at + 6 <= len && (memcmp(bytes + at, "\0\x04MQTT", 6) == 0 ||
				    memcmp(bytes + at, "\0\x06MQIs", 6) == 0);
}

enum bus__refusal
bus__refusal_of_bytes(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	if (is_http(bytes, len))
		return BUS__REFUSED_HTTP;
	/* A handshake record of TLS, with version 1.0 or later. */
	if (len >= 3 && bytes[0] == 0x16 && bytes[1] == 3)
		return BUS__REFUSED_TLS_PLAIN;
	return is_mqtt(bytes, len) ? BUS__REFUSED_MQTT : BUS__REFUSED_BYTES;
}
