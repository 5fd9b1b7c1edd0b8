#define _GNU_SOURCE
#include "log/listens.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/thread.h"
#include "log/log.h"

#define LISTENS_VERSION 1u
#define UNIT            64u
#define HEAD_BYTES      128u
#define TEXT_AT         20u /* in the entry of a filter */
#define UNITS_FIRST     16u
#define UNITS_OF_FILTER ((TEXT_AT + BUS_LIMIT_TOPIC_BYTES + 1 + UNIT - 1) / UNIT)
#define UNITS_MOST      (LISTENS_FILTERS * (UNITS_OF_FILTER + 1)) /* each of a mailbox of its own */
#define READ_TRIES      20

enum { ENTRY_FREE, ENTRY_MAILBOX, ENTRY_FILTER };

/* The file: this, then units. docs/log-format.md says the same byte by byte. */
struct head {
	uint8_t magic[8];
	uint32_t version, pid;
	uint64_t epoch;
	uint32_t changes, filters, unused, units;
	char program[LISTENS_PROGRAM];
	uint8_t unused_too[48];
	uint64_t check; /* of what is before */
};

/* The beginning of an entry. One of a mailbox takes one unit; one of a filter has its length behind that, the text and a NUL. */
struct entry {
	uint16_t units; /* 0: the unit is free */
	uint8_t kind, bus;
	uint32_t mailbox;
	uint64_t check; /* of all its units, with 0 here */
};

struct mailbox_entry {
	struct entry entry;
	uint8_t full, drain, is_peer, unused[5];
	uint64_t reached, delivered, lost;
	int64_t noted_ns;
};

_Static_assert(sizeof(struct head) == HEAD_BYTES, "the head has its place");
_Static_assert(sizeof(struct mailbox_entry) <= UNIT, "a mailbox takes one unit");
_Static_assert(sizeof(struct entry) + sizeof(uint32_t) == TEXT_AT, "a text follows its length");
_Static_assert(UNITS_MOST < UINT16_MAX, "a subscription keeps 16 bits");

/* --- the image --------------------------------------------------------------------------------------------------- */

static uint8_t *
unit_at(const struct log_listens *l, uint32_t unit)
{
	return l->image + (size_t)unit * UNIT;
}

static void
soil(struct log_listens *l, uint32_t unit, uint32_t count)
{
	if (l->dirty >= l->dirty_end) {
		l->dirty = unit;
		l->dirty_end = unit + count;
		return;
	}
	if (unit < l->dirty)
		l->dirty = unit;
	if (unit + count > l->dirty_end)
		l->dirty_end = unit + count;
}

static bool
grow(struct log_listens *l, uint32_t least)
{
	uint32_t cap = l->cap != 0 ? l->cap : UNITS_FIRST;
	uint8_t *image, *used;

	if (least > UNITS_MOST)
		return false;
	while (cap < least)
		cap *= 2;
	image = bus__realloc(l->image, (size_t)cap * UNIT);
	if (image == NULL)
		return false;
	l->image = image;
	used = bus__realloc(l->used, cap);
	if (used == NULL)
		return false;
	l->used = used;
	memset(image + (size_t)l->cap * UNIT, 0, (size_t)(cap - l->cap) * UNIT);
	memset(used + l->cap, 0, cap - l->cap);
	l->cap = cap;
	return true;
}

/* Takes the first units in a row that are free. false: there is no room, or no memory. */
static bool
take_units(struct log_listens *l, uint32_t count, uint32_t *ret_unit)
{
	uint32_t at = 0, free_units = 0;

	for (; at < l->cap && free_units < count; at++)
		free_units = l->used[at] ? 0 : free_units + 1;
	if (free_units < count) {
		if (!grow(l, at + count - free_units))
			return false;
		at += count - free_units;
	}
	*ret_unit = at - count;
	memset(l->used + at - count, 1, count);
	if (at > l->end)
		l->end = at;
	return true;
}

/* They wrap, and are never 0, which says that there is no file. */
static void
count_change(struct log_listens *l)
{
	l->changes = l->changes % UINT16_MAX + 1;
}

/* Puts the check in, when all else is there. */
static void
seal(struct log *log, uint32_t unit)
{
	uint8_t *bytes = unit_at(&log->listens, unit);
	struct entry entry;

	memcpy(&entry, bytes, sizeof entry);
	entry.check = 0;
	memcpy(bytes, &entry, sizeof entry);
	entry.check = bus__siphash(log->key, bytes, (size_t)entry.units * UNIT);
	memcpy(bytes, &entry, sizeof entry);
	soil(&log->listens, unit, entry.units);
}

static struct mailbox_entry
entry_of(const struct log_listener *m)
{
	return (struct mailbox_entry){
	    .entry = {.units = 1, .kind = ENTRY_MAILBOX, .bus = m->bus, .mailbox = m->mailbox},
	    .full = m->full,
	    .drain = m->drain,
	    .is_peer = m->is_peer,
	    .reached = m->reached,
	    .delivered = m->delivered,
	    .lost = m->lost,
	    .noted_ns = m->noted_ns,
	};
}

uint32_t
bus__log_listens_mailbox(struct log *log, const struct log_listener *m)
{
	const struct mailbox_entry entry = entry_of(m);
	struct log_listens *l = &log->listens;
	uint32_t unit;

	if (l->filters == LISTENS_FILTERS || !take_units(l, 1, &unit))
		return 0;
	memcpy(unit_at(l, unit), &entry, sizeof entry);
	seal(log, unit);
	return unit + 1;
}

uint32_t
bus__log_listens_filter(struct log *log, const struct log_listener *m, const char *filter)
{
	struct log_listens *l = &log->listens;
	uint32_t len = (uint32_t)strlen(filter), unit;
	struct entry entry = {.units = (uint16_t)((TEXT_AT + len + 1 + UNIT - 1) / UNIT),
	    .kind = ENTRY_FILTER,
	    .bus = m->bus,
	    .mailbox = m->mailbox};
	uint8_t *bytes;

	if (l->filters == LISTENS_FILTERS || !take_units(l, entry.units, &unit)) {
		l->beyond++;
		return 0;
	}
	count_change(l);
	bytes = unit_at(l, unit);
	memset(bytes, 0, (size_t)entry.units * UNIT);
	memcpy(bytes, &entry, sizeof entry);
	memcpy(bytes + sizeof entry, &len, sizeof len);
	memcpy(bytes + TEXT_AT, filter, len);
	seal(log, unit);
	l->filters++;
	return unit + 1;
}

void
bus__log_listens_note(struct log *log, uint32_t at, const struct log_listener *m)
{
	struct mailbox_entry entry = entry_of(m), before;
	struct log_listens *l = &log->listens;

	memcpy(&before, unit_at(l, at - 1), sizeof before);
	if (before.reached == m->reached && before.delivered == m->delivered &&
	    before.lost == m->lost)
		return;
	memcpy(unit_at(l, at - 1), &entry, sizeof entry);
	seal(log, at - 1);
}

void
bus__log_listens_drop(struct log *log, uint32_t at)
{
	struct log_listens *l = &log->listens;
	uint8_t *bytes = unit_at(l, at - 1);
	struct entry entry;

	memcpy(&entry, bytes, sizeof entry);
	if (entry.kind == ENTRY_FILTER) {
		l->filters--;
		count_change(l);
	}
	/* All of it: the end of a long text must not look like an entry. */
	memset(bytes, 0, (size_t)entry.units * UNIT);
	memset(l->used + at - 1, 0, entry.units);
	soil(l, at - 1, entry.units);
}

void
bus__log_listens_count(struct log *log)
{
	log->listens.beyond++;
}

void
bus__log_listens_uncount(struct log *log)
{
	log->listens.beyond--;
}

/* --- the file -------------------------------------------------------------------------------------------------------- */

/* To be freed; NULL: no memory. */
static char *
path_of(const struct log *log, uint32_t member)
{
	size_t stem = (size_t)(log->name - log->path) + log->name_len;
	size_t size = stem + LOG_NAME_EXTRA;
	char *path = bus__malloc(size);

	if (path != NULL)
		snprintf(path, size, "%.*s%s-%u", (int)stem, log->path,
		    bus__log_suffixes[LOG_FILE_LISTENS], (unsigned)member);
	return path;
}

static bool
is_same(const struct log_identity *a, const struct log_identity *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* Opens the file, or makes it. In a file that was not there the last time nothing is right. List lock. */
static int
open_own(struct log_listens *l, int *ret_fd)
{
	struct log_identity identity;
	int err;

	if (l->path == NULL)
		return BUS_E_NOMEM;
	err = bus__log_file_open(l->path, LOG_FILE_LISTENS, ret_fd);
	if (err == LOG_ABSENT) {
		l->whole = true; /* the number of a file that is gone may be used again */
		err = bus__log_file_make(l->path, LOG_FILE_LISTENS, ret_fd);
	}
	if (err < 0)
		return err;
	identity = bus__log_identity(*ret_fd);
	l->whole = l->whole || !is_same(&identity, &l->file);
	l->file = identity;
	return 0;
}

static bool
put(int fd, const void *bytes, size_t len, size_t at)
{
	if (!bus__log_may_be_so_large(at + len))
		return false;
	while (len > 0) {
		ssize_t written = pwrite(fd, bytes, len, (off_t)at);

		if (written > 0) {
			bytes = (const uint8_t *)bytes + written;
			at += (size_t)written;
			len -= (size_t)written;
		} else if (written == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

static bool
put_head(const struct log *log, int fd)
{
	const struct log_listens *l = &log->listens;
	struct head head = {
	    .version = LISTENS_VERSION,
	    .pid = (uint32_t)getpid(),
	    .epoch = log->epoch,
	    .changes = l->changes,
	    .filters = l->filters,
	    .units = l->end,
	};

	memcpy(head.magic, bus__log_listens_magic, sizeof head.magic);
	strncpy(head.program, program_invocation_short_name, sizeof head.program - 1);
	head.check = bus__siphash(log->key, &head, offsetof(struct head, check));
	return put(fd, &head, sizeof head, 0);
}

/* Entries first: a head never counts what is not there, unless something goes in between. */
static bool
write_out(struct log *log, int fd)
{
	struct log_listens *l = &log->listens;

	if (l->whole) {
		l->dirty = 0;
		l->dirty_end = l->end;
	}
	if (l->dirty < l->dirty_end &&
	    !put(fd, unit_at(l, l->dirty), (size_t)(l->dirty_end - l->dirty) * UNIT,
		HEAD_BYTES + (size_t)l->dirty * UNIT))
		return false;
	return put_head(log, fd);
}

void
bus__log_listens_begin(struct log *log)
{
	pthread_mutex_lock(&log->listens.lock);
}

void
bus__log_listens_end(struct log *log)
{
	struct log_listens *l = &log->listens;
	_Atomic uint32_t *said = &log->shared->members[log->member].listens;
	uint32_t beyond = l->beyond < LISTENS_BEYOND_MOST ? l->beyond : LISTENS_BEYOND_MOST;
	int cancel = bus__cancel_off(), fd = -1;

	/* Ten thousand that are only counted write no file. */
	if (l->changes > 0 && (l->whole || l->dirty < l->dirty_end)) {
		if (l->path == NULL)
			l->path = path_of(log, log->member);
		/* No child that is forked meanwhile gets the descriptor. */
		bus__log_lock_list();
		l->whole = open_own(l, &fd) < 0 || !write_out(log, fd);
		if (fd >= 0)
			bus__fd_close(fd);
		bus__log_unlock_list();
		l->dirty = l->dirty_end = 0;
	}
	/* Behind the file, and also where that could not be written: a reader that finds fewer changes there knows. Release: pairs
	 * with the acquire in bus__log_listens_read(). */
	atomic_store_explicit(said, l->changes << 16 | beyond, memory_order_release);
	pthread_mutex_unlock(&l->lock);
	bus__cancel_back(cancel);
}

/* --- reading ----------------------------------------------------------------------------------------------------------- */

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
	len = st.st_size < (off_t)(HEAD_BYTES + UNITS_MOST * UNIT) ? (size_t)st.st_size
								   : HEAD_BYTES + UNITS_MOST * UNIT;
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

/* How many units an entry takes that is what was written; 0: it is none, or torn. */
static uint32_t
check_entry(const struct log *log, uint8_t *bytes, uint32_t left)
{
	struct entry entry;
	uint64_t check;
	uint32_t len;

	memcpy(&entry, bytes, sizeof entry);
	if (entry.units == 0 || entry.units > left || entry.units > UNITS_OF_FILTER)
		return 0;
	check = entry.check;
	entry.check = 0;
	memcpy(bytes, &entry, sizeof entry);
	if (bus__siphash(log->key, bytes, (size_t)entry.units * UNIT) != check)
		return 0;
	memcpy(&len, bytes + sizeof entry, sizeof len);
	if (entry.kind == ENTRY_FILTER &&
	    (len >= entry.units * UNIT - TEXT_AT || bytes[TEXT_AT + len] != '\0' ||
		memchr(bytes + TEXT_AT, '\0', len) != NULL))
		return 0;
	return entry.units;
}

/* Clears what is no entry. Returns how many filters there are. */
static uint32_t
sift(const struct log *log, struct log_listening *listening)
{
	uint32_t filters = 0, count;

	for (uint32_t i = 0; i < listening->units; i += count) {
		uint8_t *bytes = listening->bytes + (size_t)i * UNIT;

		count = check_entry(log, bytes, listening->units - i);
		filters +=
		    count > 0 && ((const struct entry *)(const void *)bytes)->kind == ENTRY_FILTER;
		if (count == 0) {
			memset(bytes, 0, UNIT);
			count = 1;
		}
	}
	return filters;
}

/* Of the head of a file: BUS_E_DAMAGED also while it is being written. */
static int
check_head(const struct log *log, const uint8_t *bytes, size_t len, struct head *ret_head)
{
	if (len < sizeof *ret_head)
		return BUS_E_DAMAGED;
	memcpy(ret_head, bytes, sizeof *ret_head);
	if (ret_head->check != bus__siphash(log->key, bytes, offsetof(struct head, check)))
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
	struct head head;
	size_t len, units;
	int err = copy_file(path, &bytes, &len);

	if (err < 0)
		return err;
	err = check_head(log, bytes, len, &head);
	if (err < 0) {
		bus__free(bytes);
		return err;
	}
	units = (len - HEAD_BYTES) / UNIT;
	memmove(bytes, bytes + HEAD_BYTES, units * UNIT);
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
	/* Acquire: pairs with the release of bus__log_listens_end(): the file has as many. */
	uint32_t said =
	    atomic_load_explicit(&log->shared->members[member].listens, memory_order_acquire);

	if (said == 0)
		return 0;
	if (said >> 16 == 0) {
		*ret_listening =
		    (struct log_listening){.pid = bus__log_pid(log, member), .beyond = said};
		return 1; /* it had no memory to list one */
	}
	path = path_of(log, member);
	cancel = bus__cancel_off();
	for (unsigned tries = 0; path != NULL && tries < READ_TRIES; tries++) {
		bus__log_listens_free(&listening);
		err = read_once(log, path, said, &listening);
		if (err == BUS_E_DAMAGED || (err == 0 && listening.unread > 0))
			sched_yield(); /* it is being changed, or its process stopped in that */
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

/* The mailbox of an entry, as far as it is there. */
static void
find_mailbox(
    const struct log_listening *l, const struct entry *of, struct log_listener *ret_mailbox)
{
	struct mailbox_entry m;

	*ret_mailbox = (struct log_listener){.mailbox = of->mailbox, .bus = of->bus};
	for (uint32_t i = 0; i < l->units; i++) {
		memcpy(&m, l->bytes + (size_t)i * UNIT, sizeof m);
		if (m.entry.units > 1)
			i += m.entry.units - 1u;
		if (m.entry.units == 0 || m.entry.kind != ENTRY_MAILBOX || m.entry.bus != of->bus ||
		    m.entry.mailbox != of->mailbox)
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
	struct entry entry;

	while (*at < l->units) {
		const uint8_t *bytes = l->bytes + (size_t)*at * UNIT;

		memcpy(&entry, bytes, sizeof entry);
		*at += entry.units > 0 ? entry.units : 1;
		if (entry.units == 0 || entry.kind != ENTRY_FILTER)
			continue;
		find_mailbox(l, &entry, ret_mailbox);
		return (const char *)bytes + TEXT_AT;
	}
	return NULL;
}

/* --- membership -------------------------------------------------------------------------------------------------------- */

int
bus__log_listens_init(struct log *log)
{
	return pthread_mutex_init(&log->listens.lock, NULL) == 0 ? 0 : BUS_E_NOMEM;
}

void
bus__log_listens_fini(struct log *log)
{
	struct log_listens *l = &log->listens;

	pthread_mutex_destroy(&l->lock);
	bus__free(l->path);
	bus__free(l->image);
	bus__free(l->used);
}

void
bus__log_listens_clear(struct log *log, uint32_t member)
{
	char *path = path_of(log, member);
	int cancel = bus__cancel_off();

	if (path != NULL)
		bus__log_file_remove(path, LOG_FILE_LISTENS);
	bus__cancel_back(cancel);
	bus__free(path);
}

/* Whether that is such a file of the log `name`. */
static bool
is_of(const char *file, const char *name)
{
	const char *suffix = bus__log_suffixes[LOG_FILE_LISTENS];
	size_t name_len = strlen(name), suffix_len = strlen(suffix);
	const char *digits = file + name_len + suffix_len + 1;

	return strncmp(file, name, name_len) == 0 &&
	       strncmp(file + name_len, suffix, suffix_len) == 0 && digits[-1] == '-' &&
	       digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0';
}

void
bus__log_listens_sweep(const char *dir, const char *name)
{
	int fd = bus__fd_above_std(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;

	if (entries == NULL) {
		if (fd >= 0)
			bus__fd_close(fd);
		return;
	}
	for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
		size_t size = strlen(dir) + strlen(entry->d_name) + 2;
		char *path;

		if (!is_of(entry->d_name, name) || (path = bus__malloc(size)) == NULL)
			continue;
		snprintf(path, size, "%s/%s", dir, entry->d_name);
		bus__log_file_remove(path, LOG_FILE_LISTENS);
		bus__free(path);
	}
	closedir(entries);
}
