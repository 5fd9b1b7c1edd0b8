/* log/listens_read.c: reads and checks the file in which another process lists the filters that it listens to. */
#define _GNU_SOURCE
#include "log/listens.h"

#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/thread.h"
#include "log/listens_file.h"

#define READ_TRIES 20

/* Copies the file. */
static int
copy_file(const char *path, uint8_t **ret_bytes, size_t *ret_len)
{
	uint8_t *bytes = NULL;
	struct stat st;
	ssize_t got;
	size_t len;
	int fd, err;

	bus__log_lock_list();
	err = bus__log_file_open(path, LOG_FILE_LISTENS, &fd);
	if (err < 0) {
		bus__log_unlock_list();
		return err;
	}
	err = fstat(fd, &st) == 0 ? 0 : BUS_E_SYS;
	len = st.st_size < (off_t)(LISTENS_HEAD_BYTES + LISTENS_UNITS_MOST * LISTENS_UNIT)
		  ? (size_t)st.st_size
		  : LISTENS_HEAD_BYTES + LISTENS_UNITS_MOST * LISTENS_UNIT;
	if (err == 0) {
		bytes = bus__malloc(len);
		err = bytes != NULL ? 0 : BUS_E_NOMEM;
	}
	if (err == 0) {
		got = pread(fd, bytes, len, 0);
		*ret_len = got > 0 ? (size_t)got : 0;
		*ret_bytes = bytes;
	}
	bus__fd_close(fd);
	bus__log_unlock_list();
	return err;
}

/* The units of an entry whose check is right; 0: it is none, or torn. */
static uint32_t
check_entry(const struct log *log, uint8_t *bytes, uint32_t left)
{
	struct listens_entry entry;
	uint64_t check;
	uint32_t len;

	memcpy(&entry, bytes, sizeof entry);
	if (entry.units == 0 || entry.units > left || entry.units > LISTENS_UNITS_OF_FILTER)
		return 0;
	check = entry.check;
	entry.check = 0;
	memcpy(bytes, &entry, sizeof entry);
	if (bus__siphash(log->key, bytes, (size_t)entry.units * LISTENS_UNIT) != check)
		return 0;
	memcpy(&len, bytes + sizeof entry, sizeof len);
	if (entry.kind == LISTENS_FILTER && (len >= entry.units * LISTENS_UNIT - LISTENS_TEXT_AT ||
						bytes[LISTENS_TEXT_AT + len] != '\0' ||
						memchr(bytes + LISTENS_TEXT_AT, '\0', len) != NULL))
		return 0;
	return entry.units;
}

/* Clears units that hold no entry. Returns the number of filters. */
static uint32_t
sift(const struct log *log, struct log_listening *listening)
{
	uint32_t filters = 0, count;

	for (uint32_t i = 0; i < listening->units; i += count) {
		uint8_t *bytes = listening->bytes + (size_t)i * LISTENS_UNIT;

		count = check_entry(log, bytes, listening->units - i);
		filters += count > 0 && ((const struct listens_entry *)(const void *)bytes)->kind ==
					    LISTENS_FILTER;
		if (count == 0) {
			memset(bytes, 0, LISTENS_UNIT);
			count = 1;
		}
	}
	return filters;
}

/* 0 or the error of a head. BUS_E_DAMAGED also while its process writes it. */
static int
check_head(const struct log *log, const uint8_t *bytes, size_t len, struct listens_head *ret_head)
{
	if (len < sizeof *ret_head)
		return BUS_E_DAMAGED;
	memcpy(ret_head, bytes, sizeof *ret_head);
	if (ret_head->check != bus__siphash(log->key, bytes, offsetof(struct listens_head, check)))
		return ret_head->version == LISTENS_VERSION || ret_head->version == 0
			   ? BUS_E_DAMAGED
			   : BUS_E_VERSION;
	if (ret_head->version != LISTENS_VERSION)
		return BUS_E_VERSION;
	return ret_head->epoch == log->epoch ? 0 : LOG_ABSENT;
}

static int
read_once(const struct log *log, const char *path, uint32_t said, struct log_listening *ret)
{
	uint8_t *bytes;
	struct listens_head head;
	size_t len, units;
	int err = copy_file(path, &bytes, &len);

	if (err < 0)
		return err;
	err = check_head(log, bytes, len, &head);
	if (err < 0) {
		bus__free(bytes);
		return err;
	}
	units = (len - LISTENS_HEAD_BYTES) / LISTENS_UNIT;
	memmove(bytes, bytes + LISTENS_HEAD_BYTES, units * LISTENS_UNIT);
	*ret = (struct log_listening){
	    .bytes = bytes,
	    .units = (uint32_t)units,
	    .pid = head.pid,
	    .filters = head.filters,
	    .beyond = said & 0xffff,
	    .is_late = (int16_t)((said >> 16) - head.changes) > 0, /* they wrap */
	};
	memcpy(ret->program, head.program, sizeof ret->program - 1);
	units = sift(log, ret);
	ret->unread = head.filters > units ? head.filters - (uint32_t)units : 0;
	return 0;
}

int
bus__log_listens_read(struct log *log, uint32_t member, struct log_listening *ret_listening)
{
	struct log_listening listening = {.bytes = NULL};
	int err = BUS_E_NOMEM, cancel;
	char *path;
	/* Acquire: pairs with the release of bus__log_listens_end(): the file has as many changes, or could not be written. */
	uint32_t said =
	    atomic_load_explicit(&log->shared->members[member].listens, memory_order_acquire);

	if (said == 0)
		return 0;
	if (said >> 16 == 0) {
		*ret_listening =
		    (struct log_listening){.pid = bus__log_pid(log, member), .beyond = said};
		return 1; /* the member had no memory to list a filter */
	}
	path = bus__log_listens_path(log, member);
	cancel = bus__cancel_off();
	for (unsigned tries = 0; path != NULL && tries < READ_TRIES; tries++) {
		bus__log_listens_free(&listening);
		err = read_once(log, path, said, &listening);
		if (err == BUS_E_DAMAGED || (err == 0 && listening.unread > 0))
			sched_yield(); /* its process is changing it, or was stopped while it did */
		else
			break;
	}
	bus__cancel_back(cancel);
	bus__free(path);
	if (err < 0)
		return err;
	*ret_listening = listening;
	return 1;
}

void
bus__log_listens_free(struct log_listening *listening)
{
	bus__free(listening->bytes);
	*listening = (struct log_listening){.bytes = NULL};
}

/* The mailbox of an entry, as far as the file has it. */
static void
find_mailbox(
    const struct log_listening *l, const struct listens_entry *of, struct log_listener *ret_mailbox)
{
	struct listens_mailbox_entry m;

	*ret_mailbox = (struct log_listener){.mailbox = of->mailbox, .bus = of->bus};
	for (uint32_t i = 0; i < l->units; i++) {
		memcpy(&m, l->bytes + (size_t)i * LISTENS_UNIT, sizeof m);
		if (m.entry.units > 1)
			i += m.entry.units - 1u;
		if (m.entry.units == 0 || m.entry.kind != LISTENS_MAILBOX ||
		    m.entry.bus != of->bus || m.entry.mailbox != of->mailbox)
			continue;
		ret_mailbox->full = m.full;
		ret_mailbox->drain = m.drain;
		ret_mailbox->is_peer = m.is_peer;
		ret_mailbox->reached = m.reached;
		ret_mailbox->delivered = m.delivered;
		ret_mailbox->lost = m.lost;
		ret_mailbox->noted_ns = m.noted_ns;
		return;
	}
}

const char *
bus__log_listens_next(const struct log_listening *l, uint32_t *at, struct log_listener *ret_mailbox)
{
	struct listens_entry entry;

	while (*at < l->units) {
		const uint8_t *bytes = l->bytes + (size_t)*at * LISTENS_UNIT;

		memcpy(&entry, bytes, sizeof entry);
		*at += entry.units > 0 ? entry.units : 1;
		if (entry.units == 0 || entry.kind != LISTENS_FILTER)
			continue;
		find_mailbox(l, &entry, ret_mailbox);
		return (const char *)bytes + LISTENS_TEXT_AT;
	}
	return NULL;
}
