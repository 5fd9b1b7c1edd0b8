/* Reads the files of a link again: users, ACL and certificates. */
#include <string.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "link/link.h"
#include "link/session.h"
#include "link/terms.h"

struct reload {
	struct bus__task task;
	struct bus_link *link;
	struct bus__users *users;
	struct bus__acl *acl;
	struct bus__terms terms; /* the link's, except what prepare() made */
};

/* Frees the unused set: the new one, or after swap() the old one. */
static void
drop(struct reload *reload)
{
	bus__users_drop(reload->users);
	bus__acl_unref(reload->acl);
	if (reload->link->transport->release != NULL)
		reload->link->transport->release(&reload->terms);
	bus__free(reload);
}

/* Ends the connections, so that none continues under the old files. Both sides remember each other, so every lost message is
 * counted. */
static void
swap(void *arg)
{
	struct reload *reload = arg;
	struct bus_link *link = reload->link;
	struct bus__guard *guard = &link->guard;
	struct reload had = {.users = guard->users, .acl = guard->acl, .terms = link->terms};
	struct bus__session *next;

	guard->users = reload->users;
	guard->acl = reload->acl;
	link->terms.tls = reload->terms.tls;
	reload->users = had.users;
	reload->acl = had.acl;
	reload->terms.tls = had.terms.tls;
	/* A stream accepted or dialled under the old files. */
	if (link->io.stream != NULL)
		link->io.stream->ops->free(link->io.stream);
	link->io.stream = NULL;
	for (struct bus__session *s = link->sessions; s != NULL; s = next) {
		next = s->next;
		bus__session_end(s, BUS_E_RESET);
	}
	drop(reload);
}

static int
read_files(struct reload *reload)
{
	struct bus_link *link = reload->link;
	int err = bus__guard_read(&link->guard, &reload->users, &reload->acl);

	if (err == 0 && link->transport->prepare != NULL)
		err = link->transport->prepare(&reload->terms);
	return err;
}

int
bus_link_reload(struct bus_link *link)
{
	struct reload *reload;
	int err;

	if (link == NULL)
		return bus__answer(BUS_E_INVAL);
	if (bus__enter(link->links->bus) == BUS_E_FORKED)
		return bus__fail_about(BUS_E_FORKED, link->url);
	reload = bus__calloc(1, sizeof *reload);
	if (reload == NULL)
		return bus__fail_about(BUS_E_NOMEM, link->url);
	reload->link = link;
	reload->task = (struct bus__task){.run = swap, .arg = reload};
	bus__terms_again(&link->terms, &reload->terms);
	err = read_files(reload);
	if (err < 0)
		goto drop_reload;
	err = bus__links_enter(link->links) ? 0 : bus__fail_about(BUS_E_CLOSED, link->url);
	if (err < 0)
		goto drop_reload;
	bus__loop_post(&link->links->loop, &reload->task);
	bus__links_leave(link->links);
	return 0;

drop_reload:
	drop(reload);
	return err;
}
