#include "link/login.h"

#include <string.h>

#include "access/scram.h"
#include "base/mem.h"
#include "base/secret.h"
#include "link/attempts.h"

struct bus__login {
	bool waits;    /* dialling: for the keys */
	bool is_early; /* listening: the peer must wait after failed logins */
	union {
		struct bus__scram_client client;
		struct bus__scram_server server;
	} of;
	struct bus__users *users; /* listening: the users when it began */
};

static int
say(struct bus__session *session, const char *message, int len)
{
	if (len < 0)
		return len;
	return bus__session_say(session, BUS__FRAME_AUTH, 0, message, (size_t)len);
}

void
bus__login_end(struct bus__session *session)
{
	struct bus__login *login = session->login;

	if (login == NULL)
		return;
	session->login = NULL;
	if (session->dialled)
		bus__scram_client_end(&login->of.client);
	else
		bus__scram_server_end(&login->of.server);
	bus__users_drop(login->users);
	bus__free(login);
}

int
bus__login_begin(struct bus__session *session, bool *ret_asked)
{
	struct bus__guard *guard = &session->link->guard;
	bool asked = session->dialled ? (session->hello.features & BUS__NEEDS_AUTH) != 0
				      : guard->users != NULL;
	char message[BUS__SCRAM_MESSAGE];

	/* A side with a user talks only to a listener that proves that it knows the password. */
	if (session->dialled && asked != (guard->user != NULL))
		return BUS_E_AUTH;
	*ret_asked = asked;
	if (!asked)
		return 0;
	session->login = bus__calloc(1, sizeof *session->login);
	if (session->login == NULL)
		return BUS_E_NOMEM;
	session->stage = BUS__STAGE_AUTH;
	if (!session->dialled) {
		session->login->users = bus__users_take(guard->users);
		return 0;
	}
	return say(session, message,
	    bus__scram_client_first(&session->login->of.client, guard->user, message));
}

/* --- dialling ---------------------------------------------------------------------------------------------- */

static bool
are_same(const struct bus__salting *a, const struct bus__salting *b)
{
	return a->iterations == b->iterations && a->salt_len == b->salt_len &&
	       memcmp(a->salt, b->salt, a->salt_len) == 0;
}

/* On the hasher's thread. */
static void
post_hashed(void *arg)
{
	struct bus_link *link = arg;
	struct bus__links *links = link->links;

	/* Once the task is posted, the link may be freed, and the links too unless they are held. */
	if (!bus__links_enter(links))
		return;
	bus__loop_post(&links->loop, &link->guard.hashed);
	bus__links_leave(links);
}

/* 1: the guard has the keys; 0: they follow. The job outlives the connection: if hashing takes longer than a handshake may, the
 * next connection finds it done. */
static int
ask_for_keys(struct bus_link *link, const struct bus__salting *salting)
{
	struct bus__guard *guard = &link->guard;
	bool known = are_same(&guard->job.salting, salting);
	int err;

	if (known && (guard->has_keys || guard->is_hashing))
		return guard->has_keys;
	bus__guard_stop(guard);
	bus__loop_cancel(&link->links->loop, &guard->hashed);
	guard->hashed = (struct bus__task){.run = bus__login_hashed, .arg = link};
	guard->job = (struct bus__hash_job){
	    .password = guard->password, .salting = *salting, .done = post_hashed, .arg = link};
	err = bus__hasher_ask(&guard->job);
	guard->is_hashing = err == 0;
	guard->has_keys = err == 1;
	return err;
}

static int
say_final(struct bus__session *session)
{
	char message[BUS__SCRAM_MESSAGE];

	session->login->waits = false;
	return say(session, message,
	    bus__scram_client_final(
		&session->login->of.client, &session->link->guard.job.keys, message));
}

void
bus__login_hashed(void *arg)
{
	struct bus_link *link = arg;
	struct bus__guard *guard = &link->guard;
	struct bus__session *session = link->sessions;
	int err = guard->job.err;

	guard->is_hashing = false;
	guard->has_keys = err == 0;
	while (session != NULL && (session->login == NULL || !session->login->waits))
		session = session->next;
	if (session == NULL)
		return;
	if (err == 0)
		err = say_final(session);
	if (err == 0)
		err = bus__session_send(session);
	if (err < 0)
		bus__session_end(session, err);
}

static int
hear_listener(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__scram_client *client = &session->login->of.client;
	struct bus__guard *guard = &session->link->guard;
	int err;

	if (session->login->waits)
		return BUS_E_PROTOCOL;
	if (client->salting.iterations == 0) {
		err = bus__scram_client_challenge(client, frame->body, frame->len);
		if (err == 0)
			err = ask_for_keys(session->link, &client->salting);
		session->login->waits = err == 0;
		return err == 1 ? say_final(session) : err;
	}
	err = bus__scram_client_verify(client, frame->body, frame->len);
	if (err < 0)
		return err;
	bus__hasher_remember(&guard->job);
	bus__login_end(session);
	return bus__session_say_join(session);
}

/* --- refusals ---------------------------------------------------------------------------------------------- */

static const enum bus__refusal refusals[BUS__SCRAM_REASONS] = {
    [BUS__SCRAM_OK] = BUS__REFUSED_NO_USER, /* the peer left before it named a user */
    [BUS__SCRAM_MALFORMED] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_BINDING] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_UNKNOWN_USER] = BUS__REFUSED_UNKNOWN,
    [BUS__SCRAM_WEAK_ENTRY] = BUS__REFUSED_ENTRY,
    [BUS__SCRAM_WRONG_PASSWORD] = BUS__REFUSED_PASSWORD,
    [BUS__SCRAM_FEW_ITERATIONS] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_MANY_ITERATIONS] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_NOT_THE_SERVER] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_REFUSED] = BUS__REFUSED_BYTES,
    [BUS__SCRAM_SYSTEM] = BUS__REFUSED_BYTES,
};

enum bus__refusal
bus__login_refusal(const struct bus__session *session, const char **ret_user)
{
	const struct bus__login *login = session->login;

	if (session->dialled) {
		*ret_user = session->link->guard.user;
		return session->heard_bye || session->link->guard.user == NULL
			   ? BUS__REFUSED_OUR_LOGIN
			   : BUS__REFUSED_NOT_PROVED;
	}
	if (login == NULL)
		return session->heard_bye ? BUS__REFUSED_ASKS_NOBODY : BUS__REFUSED_NO_USER;
	if (login->of.server.user != NULL)
		*ret_user = login->of.server.name;
	return login->is_early ? BUS__REFUSED_ATTEMPTS : refusals[login->of.server.reason];
}

/* --- listening --------------------------------------------------------------------------------------------- */

static int
hear_dialler(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__login *login = session->login;
	struct bus__scram_server *server = &login->of.server;
	char message[BUS__SCRAM_MESSAGE];
	int len;

	if (server->name[0] == '\0') {
		len =
		    bus__scram_server_first(server, login->users, frame->body, frame->len, message);
		login->is_early =
		    len >= 0 && bus__attempt_is_early(session->link, session->stream, server->name);
		return login->is_early ? BUS_E_AUTH : say(session, message, len);
	}
	/* Check again: many connections of one peer may have reached this point. */
	login->is_early = bus__attempt_is_early(session->link, session->stream, server->name);
	if (login->is_early)
		return BUS_E_AUTH;
	len = bus__scram_server_final(server, frame->body, frame->len, message);
	if (len == BUS_E_AUTH)
		bus__attempt_failed(session->link, session->stream, server->name);
	if (len < 0)
		return len;
	bus__attempt_succeeded(session->link, session->stream, server->name);
	memcpy(session->identity.name, server->name, sizeof session->identity.name);
	session->stage = BUS__STAGE_JOIN;
	bus__login_end(session);
	return say(session, message, len);
}

int
bus__login_hear(struct bus__session *session, const struct bus__frame *frame)
{
	if (frame->kind == BUS__FRAME_AUTH)
		return session->dialled ? hear_listener(session, frame)
					: hear_dialler(session, frame);
	/* JOIN without AUTH: no user was given. */
	return frame->kind == BUS__FRAME_JOIN ? BUS_E_AUTH : BUS_E_PROTOCOL;
}
