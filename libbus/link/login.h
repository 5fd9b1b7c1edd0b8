/* link/login.h: the exchange of AUTH frames between HELLO and JOIN. The dialling side proves a user's password, and the
 * listening side proves that it knows it (access/scram.h). Link thread. */
#ifndef BUS_LINK_LOGIN_H
#define BUS_LINK_LOGIN_H

#include "link/session.h"

/* HELLO is read: begins the exchange. *ret_asked: there is one, and JOIN follows it. 0, BUS_E_AUTH (only one side wants
 * it), BUS_E_NOMEM. */
int bus__login_begin(struct bus__session *session, bool *ret_asked);

/* Takes an AUTH frame. 0 or the error that ends the connection. */
int bus__login_hear(struct bus__session *session, const struct bus__frame *frame);

/* The reason for which the peer is refused, or refuses this side. *ret_user: the user, if known. Call it before the exchange
 * ends. */
enum bus__refusal bus__login_refusal(const struct bus__session *session, const char **ret_user);

/* Ends the exchange, if one is under way, and wipes its secrets. */
void bus__login_end(struct bus__session *session);

/* Task of a dialling link: its guard has the keys. */
void bus__login_hashed(void *link);

#endif
