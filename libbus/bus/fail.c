/* bus/fail.c: the sentence for a failure: error, object, next step. */
#define _POSIX_C_SOURCE 200809L
#include "bus/fail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "bus/bus_internal.h"
#include "log/log.h"
#include "topic/name.h"

/* --- publishing ------------------------------------------------------------------------------------------------- */

static int
fail_too_big(const struct bus *bus, const char *topic, size_t len)
{
	return bus__fail(BUS_E_TOO_BIG,
	    BUS__SHOWN ": payload too big: %zu bytes, and this bus takes %" PRIu32
		       ": split it, or open the bus with a larger max_payload",
	    topic, len, bus->max_payload);
}

static int
fail_topics(const struct bus *bus, const char *topic)
{
	return bus__fail(BUS_E_LIMIT,
	    BUS__SHOWN ": no room for another topic: all %" PRIu32
		       " are in use: close publishers and subscriptions, or raise max_topics",
	    topic, bus->max_topics);
}

int
bus__fail_publish(const struct bus *bus, int err, const char *topic, size_t len)
{
	int said;

	if (bus == NULL)
		return bus__fail_no_bus(err);
	if (topic == NULL)
		return bus__fail_name(err, NULL);
	said = bus->kind->fail(bus, err, topic, len);
	if (said != 0)
		return said;
	switch (err) {
	case BUS_E_TOO_BIG:
		return fail_too_big(bus, topic, len);
	case BUS_E_LIMIT:
	case BUS__NO_TOPIC:
		return fail_topics(bus, topic);
	case BUS__NO_DESCRIPTOR:
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": no more descriptors: close some, or raise ulimit -n", topic);
	case BUS_E_FULL:
		return bus__fail_about(err, topic);
	case BUS_E_INVAL:
		return bus__fail(err,
		    BUS__SHOWN
		    ": bad argument: data or headers are NULL with a length, or type, flags or time_ns is out of range",
		    topic);
	default:
		return bus__fail_name(err, topic);
	}
}

/* --- opening a bus ---------------------------------------------------------------------------------------------- */

static int
fail_open_argument(const char *name, const struct bus_config *cfg)
{
	if (cfg != NULL && cfg->max_payload > BUS__PAYLOAD_MOST)
		return bus__fail(BUS_E_INVAL,
		    "max_payload: %" PRIu32 " bytes: at most %u (256 MiB)", cfg->max_payload,
		    BUS__PAYLOAD_MOST);
	if (name == NULL)
		return bus__fail(
		    BUS_E_INVAL, "bus_open(): ret_bus is NULL: pass the address of a struct bus *");
	if (strlen(name) > LOG_NAME_MOST || name[0] == '\0' ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-")] != '\0')
		return bus__fail(BUS_E_INVAL,
		    "\"" BUS__SHOWN "\": no name of a bus: 1 to %d of a-z 0-9 . _ -", name,
		    LOG_NAME_MOST);
	if (cfg != NULL && cfg->log_bytes != 0 &&
	    (cfg->log_bytes < LOG_BYTES_LEAST || cfg->log_bytes > LOG_BYTES_MOST))
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": log_bytes: %" PRIu64 ": from 4 MiB to 16 GiB", name,
		    cfg->log_bytes);
	if (cfg != NULL && cfg->will != NULL)
		return bus__fail(
		    BUS_E_INVAL, BUS__SHOWN ": bad will: check its type, flags and data", name);
	return bus__fail_about(BUS_E_INVAL, name);
}

/* Names what the path of a bus's files holds instead. */
static int
fail_files(int err, const char *name, const char *dir)
{
	char own[sizeof "/dev/shm/libbus-" + 3 * sizeof(unsigned)];

	snprintf(own, sizeof own, "/dev/shm/libbus-%u", (unsigned)geteuid());
	if (dir == NULL)
		dir = own;
	switch (err) {
	case LOG_REMOVED:
		return bus__fail(BUS_E_DAMAGED,
		    "%s: its log %s/%s%s was removed while processes use it: stop every process on this bus, then start again",
		    name, dir, name, bus__log_suffixes[LOG_FILE_LOG]);
	case LOG_CUT:
		return bus__fail(BUS_E_DAMAGED,
		    "%s: its log %s/%s%s was truncated or extended: stop every process on this bus, then start again",
		    name, dir, name, bus__log_suffixes[LOG_FILE_LOG]);
	case LOG_NO_OFD:
		return bus__fail(BUS_E_NOTSUP,
		    "%s: this system has no locks of open file descriptions: use Linux 3.15 or newer",
		    name);
	default:
		return bus__fail(BUS_E_DENIED,
		    "%s: %s/%s%s is not a libbus file, or other users can open it: move it away, or give the bus another name or dir",
		    name, dir, name, bus__log_suffixes[LOG_FOREIGN_LOG - err]);
	}
}

int
bus__fail_open(int err, const char *name, const struct bus_config *cfg)
{
	const char *dir = cfg != NULL && cfg->dir != NULL ? cfg->dir : "/dev/shm";
	const struct bus_msg *will = cfg != NULL ? cfg->will : NULL;
	char reason[128];

	if (err <= LOG_FOREIGN_LOG && err >= LOG_NO_OFD)
		return fail_files(err, name, cfg != NULL ? cfg->dir : NULL);
	if (err == BUS_E_INVAL)
		return fail_open_argument(name, cfg);
	if (name == NULL && err == BUS_E_NOTSUP)
		return bus__fail(
		    err, "will: a private bus ends with its process: give the bus a name");
	if (name == NULL)
		return bus__fail_about(err, NULL);
	switch (err) {
	case BUS_E_NOSPACE:
		return bus__fail(err,
		    BUS__SHOWN
		    ": no room for the bus's log: free some in " BUS__SHOWN
		    " (df shows it), raise ulimit -f if that is lower, or set another dir or fewer log_bytes",
		    name, dir);
	case BUS_E_DENIED:
		return bus__fail(err,
		    BUS__SHOWN
		    ": not allowed: the directory or file of its log in " BUS__SHOWN
		    " belongs to another user, or other users can write there (mode 0700)",
		    name, dir);
	case BUS_E_LIMIT:
		return err; /* bus__fail_join() has set the text */
	case BUS_E_TIMEDOUT:
		return bus__fail(err,
		    BUS__SHOWN
		    ": timed out: another process was stopped while it joined or left the bus: continue or end it",
		    name);
	case BUS_E_SYS:
		if (strerror_r(errno, reason, sizeof reason) != 0)
			return bus__fail_about(err, name);
		return bus__fail(err,
		    BUS__SHOWN ": the system refused its log in " BUS__SHOWN ": %s", name, dir,
		    reason);
	case BUS_E_DAMAGED:
		return bus__fail(err,
		    BUS__SHOWN
		    ": its log is corrupt: another process overwrote it: stop every process on this bus, then start again",
		    name);
	case BUS_E_VERSION:
		return bus__fail(err,
		    BUS__SHOWN
		    ": its log is not in format %u, the one of this library: update the older programs on the bus, or stop them",
		    name, LOG_VERSION);
	default:
		if (will != NULL && err <= BUS_E_TOPIC_EMPTY && err >= BUS_E_TOO_BIG)
			return bus__fail(err, BUS__SHOWN ": will on " BUS__SHOWN ": %s", name,
			    will->topic != NULL ? will->topic : "NULL", bus_strerror(err));
		return bus__fail_about(err, name);
	}
}
