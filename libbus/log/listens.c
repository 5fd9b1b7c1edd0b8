/* log/listens.c: the file in which a process lists the filters that it listens to: its image in memory, and its writing.
 * listens_read.c reads those of others. */
#define _GNU_SOURCE
#include "log/listens.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/thread.h"
#include "log/listens_file.h"

#define UNITS_FIRST 16u

static uint8_t *
unit_at(const struct log_listens *l, uint32_t unit)
{
	return l->image + (size_t)unit * LISTENS_UNIT;
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

	if (least > LISTENS_UNITS_MOST)
		return false;
	while (cap < least)
		cap *= 2;
	image = bus__realloc(l->image, (size_t)cap * LISTENS_UNIT);
	if (image == NULL)
		return false;
	l->image = image;
	used = bus__realloc(l->used, cap);
	if (used == NULL)
		return false;
	l->used = used;
	memset(image + (size_t)l->cap * LISTENS_UNIT, 0, (size_t)(cap - l->cap) * LISTENS_UNIT);
	memset(used + l->cap, 0, cap - l->cap);
	l->cap = cap;
	return true;
}

/* Takes the first `count` free units in a row. false: no room, or no memory. */
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

/* Changes wrap and are never 0: that means no file. */
static void
count_change(struct log_listens *l)
{
	l->changes = l->changes % UINT16_MAX + 1;
}

/* Writes the check, last. */
static void
seal(struct log *log, uint32_t unit)
{
	uint8_t *bytes = unit_at(&log->listens, unit);
	struct listens_entry entry;

	memcpy(&entry, bytes, sizeof entry);
	entry.check = 0;
	memcpy(bytes, &entry, sizeof entry);
	entry.check = bus__siphash(log->key, bytes, (size_t)entry.units * LISTENS_UNIT);
	memcpy(bytes, &entry, sizeof entry);
	soil(&log->listens, unit, entry.units);
}

static struct listens_mailbox_entry
entry_of(const struct log_listener *m)
{
	return (struct listens_mailbox_entry){
	    .entry = {.units = 1, .kind = LISTENS_MAILBOX, .bus = m->bus, .mailbox = m->mailbox},
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
	const struct listens_mailbox_entry entry = entry_of(m);
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
	struct listens_entry entry = {
	    .units = (uint16_t)((LISTENS_TEXT_AT + len + 1 + LISTENS_UNIT - 1) / LISTENS_UNIT),
	    .kind = LISTENS_FILTER,
	    .bus = m->bus,
	    .mailbox = m->mailbox};
	uint8_t *bytes;

	if (l->filters == LISTENS_FILTERS || !take_units(l, entry.units, &unit)) {
		l->beyond++;
		return 0;
	}
	count_change(l);
	bytes = unit_at(l, unit);
	memset(bytes, 0, (size_t)entry.units * LISTENS_UNIT);
	memcpy(bytes, &entry, sizeof entry);
	memcpy(bytes + sizeof entry, &len, sizeof len);
	memcpy(bytes + LISTENS_TEXT_AT, filter, len);
	seal(log, unit);
	l->filters++;
	return unit + 1;
}

void
bus__log_listens_note(struct log *log, uint32_t at, const struct log_listener *m)
{
	struct listens_mailbox_entry entry = entry_of(m), before;
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
	struct listens_entry entry;

	memcpy(&entry, bytes, sizeof entry);
	if (entry.kind == LISTENS_FILTER) {
		l->filters--;
		count_change(l);
	}
	/* All units: the end of a long text must not look like an entry. */
	memset(bytes, 0, (size_t)entry.units * LISTENS_UNIT);
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

/* --- the file ------------------------------------------------------------------------------------------------------ */

char *
bus__log_listens_path(const struct log *log, uint32_t member)
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

/* Opens the file, or makes it. A file that is new, or another than before, is to be written whole. List lock. */
static int
open_own(struct log_listens *l, int *ret_fd)
{
	struct log_identity identity;
	int err;

	if (l->path == NULL)
		return BUS_E_NOMEM;
	err = bus__log_file_open(l->path, LOG_FILE_LISTENS, ret_fd);
	if (err == LOG_ABSENT) {
		l->whole = true; /* the inode number of a removed file may be used again */
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
	struct listens_head head = {
	    .version = LISTENS_VERSION,
	    .pid = (uint32_t)getpid(),
	    .epoch = log->epoch,
	    .changes = l->changes,
	    .filters = l->filters,
	    .units = l->end,
	};

	memcpy(head.magic, bus__log_listens_magic, sizeof head.magic);
	strncpy(head.program, program_invocation_short_name, sizeof head.program - 1);
	head.check = bus__siphash(log->key, &head, offsetof(struct listens_head, check));
	return put(fd, &head, sizeof head, 0);
}

/* Entries first, so that the head counts no entry that is missing, unless one is dropped in between. */
static bool
write_out(struct log *log, int fd)
{
	struct log_listens *l = &log->listens;

	if (l->whole) {
		l->dirty = 0;
		l->dirty_end = l->end;
	}
	if (l->dirty < l->dirty_end &&
	    !put(fd, unit_at(l, l->dirty), (size_t)(l->dirty_end - l->dirty) * LISTENS_UNIT,
		LISTENS_HEAD_BYTES + (size_t)l->dirty * LISTENS_UNIT))
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

	/* Filters that are only counted write no file. */
	if (l->changes > 0 && (l->whole || l->dirty < l->dirty_end)) {
		if (l->path == NULL)
			l->path = bus__log_listens_path(log, log->member);
		/* The lock keeps the descriptor from a child that is forked now. */
		bus__log_lock_list();
		l->whole = open_own(l, &fd) < 0 || !write_out(log, fd);
		if (fd >= 0)
			bus__fd_close(fd);
		bus__log_unlock_list();
		l->dirty = l->dirty_end = 0;
	}
	/* After the file, also when writing it failed: a reader that finds fewer changes in the file knows. Release: pairs with the
	 * acquire in bus__log_listens_read(). */
	atomic_store_explicit(said, l->changes << 16 | beyond, memory_order_release);
	pthread_mutex_unlock(&l->lock);
	bus__cancel_back(cancel);
}

/* --- membership ---------------------------------------------------------------------------------------------------- */

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
	char *path = bus__log_listens_path(log, member);
	int cancel = bus__cancel_off();

	if (path != NULL)
		bus__log_file_remove(path, LOG_FILE_LISTENS);
	bus__cancel_back(cancel);
	bus__free(path);
}

/* Whether `file` is named like a file of filters of the log `name`. */
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
