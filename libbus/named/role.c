/* named/role.c: what one process of a host does at a time. */
#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "named/role.h"
#include "named/state.h"
#include "bus/fail.h"
#include "mailbox/mailbox.h"
#include "topic/name.h"
#include "log/log.h"

#include <stdio.h>

/* How soon it is noticed that the holder of another bus has ended or died. */
#define LOOK_NS INT64_C(100000000)

struct bus_role {
	struct bus *bus;       /* counted */
	struct bus_role *next; /* of its bus; bus lock, as the next */
	uint64_t number;
	bool held;
};

/* Waits until the role is ours. Records of other processes wake no thread here: a thousand records a second would wake each thread that
 * stands by. 1, BUS_E_TIMEDOUT, BUS__E_HANDLER, BUS_E_CLOSED, or what bus__log_role_take() answers. */
static int
await(struct bus *bus, const char *name, int64_t deadline_ns, uint64_t *ret_number)
{
	for (;;) {
		/* Acquire, before the look: pairs with the release of an end, also that of the bus. */
		uint32_t seen =
		    atomic_load_explicit(&bus->named->roles_ended, memory_order_acquire);
		int err = bus__enter(bus);
		int64_t now;

		if (err == 0)
			err = bus__log_role_take(bus->log, name, ret_number);
		if (err != 0)
			return err;
		now = bus__now_ns();
		if (now >= deadline_ns)
			return BUS_E_TIMEDOUT;
		if (bus__park(&bus->named->roles_ended, seen,
			deadline_ns - now > LOOK_NS ? now + LOOK_NS : deadline_ns) ==
			BUS__INTERRUPTED &&
		    deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
}

/* Lists a taken role, or gives it up if the bus has closed. */
static int
list(struct bus *bus, struct bus_role *role)
{
	int err;

	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0) {
		role->held = true;
		role->next = bus->named->roles;
		bus->named->roles = role;
	}
	bus__unlock(bus);
	if (err < 0)
		bus__log_role_end(bus->log, role->number);
	return err;
}

static int
take(struct bus *bus, const char *name, int timeout_ms, struct bus_role **ret_role)
{
	int64_t deadline_ns = timeout_ms == 0 ? 0 : bus__deadline_ns(timeout_ms);
	char whole[BUS_LIMIT_TOPIC_BYTES + 16];
	struct bus_role *role;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__topic_check(name, &len);
	if (err < 0)
		return err;
	if (ret_role == NULL)
		return BUS_E_INVAL;
	if (!bus->kind->has_members)
		return BUS_E_NOTSUP;
	if (timeout_ms != 0 && bus__in_callback())
		return BUS_E_STATE;
	role = bus__calloc(1, sizeof *role);
	if (role == NULL)
		return BUS_E_NOMEM;
	if (snprintf(whole, sizeof whole, "$bus/roles/%s", name) > BUS_LIMIT_TOPIC_BYTES)
		err = BUS_E_TOPIC_LONG;
	bus__ref(bus);
	if (err == 0)
		err = await(bus, whole, deadline_ns, &role->number);
	if (err == 1)
		err = list(bus, role);
	if (err < 0) {
		bus__free(role);
		bus__unref(bus);
		return err;
	}
	role->bus = bus;
	*ret_role = role;
	return 0;
}

int
bus_role_take(struct bus *bus, const char *name, int timeout_ms, struct bus_role **ret_role)
{
	int err = take(bus, name, timeout_ms, ret_role);

	if (err >= 0)
		return 0;
	if (bus == NULL || name == NULL)
		return bus__fail_publish(bus, err, NULL, 0);
	switch (err) {
	case BUS__E_HANDLER:
		return bus__fail(BUS_E_TIMEDOUT,
		    BUS__SHOWN
		    ": a signal handler ran while another bus had this role: call again, or give a limit, within which handlers do not end the wait",
		    name);
	case BUS_E_TIMEDOUT:
		return bus__fail(err,
		    BUS__SHOWN ": timed out: another bus has this role for longer than %d ms", name,
		    timeout_ms);
	case BUS_E_STATE:
		return bus__fail(err,
		    BUS__SHOWN ": not from here: a callback may not wait for a role; give it 0 ms",
		    name);
	case BUS_E_NOTSUP:
		return bus__fail(err, BUS__SHOWN ": roles are for a named bus", name);
	case BUS_E_INVAL:
		return bus__fail(err,
		    BUS__SHOWN ": ret_role is NULL: pass the address of a struct bus_role *", name);
	case BUS_E_LIMIT:
		return bus__fail_publish(bus, err, name, 0);
	default:
		return bus__fail_name(err, name);
	}
}

/* Bus lock. */
static void
end(struct bus_role *role)
{
	if (role->held)
		bus__log_role_end(role->bus->log, role->number);
	role->held = false;
}

/* Has all of this bus that stand by look. */
static void
tell(struct bus *bus)
{
	atomic_fetch_add_explicit(&bus->named->roles_ended, 1, memory_order_release);
	bus__unpark(&bus->named->roles_ended);
}

void
bus__roles_end(struct bus *bus)
{
	bus__lock(bus);
	for (struct bus_role *role = bus->named->roles; role != NULL; role = role->next)
		end(role);
	bus->named->roles = NULL;
	bus__unlock(bus);
	tell(bus);
}

void
bus_role_end(struct bus_role *role)
{
	struct bus_role **at;
	struct bus *bus;

	if (role == NULL || role->bus->fork_generation != bus__fork_generation())
		return;
	bus = role->bus;
	bus__lock(bus);
	end(role);
	for (at = &bus->named->roles; *at != NULL && *at != role;)
		at = &(*at)->next;
	if (*at != NULL)
		*at = role->next;
	bus__unlock(bus);
	tell(bus);
	bus__free(role);
	bus__unref(bus);
}
