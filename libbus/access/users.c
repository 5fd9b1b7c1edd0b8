#define _GNU_SOURCE
#include "access/users.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/error.h>

#include "access/users_file.h"
#include "access/users_line.h"
#include "base/error_text.h"
#include "base/mem.h"
#include "base/secret.h"

struct row {
	struct bus__user user; /* first: names are looked up by it */
	size_t line;
};

struct bus__users {
	/* Relaxed to take; acquire and release to drop: the last holder frees what the others read. */
	_Atomic uint32_t references;
	struct bus__salting salting;
	size_t count;
	struct row rows[];
};

static int
by_name(const void *a, const void *b)
{
	const struct row *left = a, *right = b;
	int order = strcmp(left->user.name, right->user.name);

	return order != 0 ? order : left->line < right->line ? -1 : left->line > right->line;
}

static int
complain(const char *path, size_t line, int err, const char *name, const char *complaint)
{
	if (name[0] == '\0')
		return bus__fail(err,
		    BUS__SHOWN ":%zu: %s; libbus user add NAME writes a correct line", path, line,
		    complaint);
	return bus__fail(err, BUS__SHOWN ":%zu: \"%s\": %s; replace this line: libbus user add %s",
	    path, line, name, complaint, name);
}

static int
read_rows(const char *path, const struct bus__users_text *text, struct bus__users *users)
{
	size_t line = 0;

	for (const char *at = text->at, *end = at + text->len, *next; at < end; at = next) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		struct row *row = &users->rows[users->count];
		const char *complaint;
		size_t len;
		int err;

		next = newline != NULL ? newline + 1 : end;
		line++;
		len = bus__user_line_len(at, (size_t)(next - at));
		if (len == 0)
			continue;
		row->user.name[0] = '\0';
		err = bus__user_line_read(at, len, &row->user, &complaint);
		if (err < 0)
			return complain(path, line, err, row->user.name, complaint);
		row->line = line;
		users->count++;
	}
	return 0;
}

/* Unknown users do not imitate an entry that is too weak for a handshake. */
static void
choose_salting(struct bus__users *users)
{
	users->salting.iterations = BUS__ITERATIONS;
	users->salting.salt_len = BUS__NEW_SALT;
	for (size_t i = 0; i < users->count; i++)
		if (users->rows[i].user.salting.iterations >= BUS__ITERATIONS_LEAST) {
			users->salting = users->rows[i].user.salting;
			return;
		}
}

static int
find_twins(const char *path, const struct bus__users *users)
{
	for (size_t i = 1; i < users->count; i++)
		if (strcmp(users->rows[i - 1].user.name, users->rows[i].user.name) == 0)
			return bus__fail(BUS_E_INVAL,
			    BUS__SHOWN
			    ":%zu: \"%s\" is in line %zu already: remove one of the two lines",
			    path, users->rows[i].line, users->rows[i].user.name,
			    users->rows[i - 1].line);
	return 0;
}

int
bus__users_load(const char *path, struct bus__users **ret_users)
{
	struct bus__users_text text;
	struct bus__users *users;
	int err = bus__users_text_read(path, &text);

	if (err < 0)
		return err;
	users = bus__calloc(1, sizeof *users + text.users * sizeof users->rows[0]);
	if (users == NULL) {
		err = bus__fail_about(BUS_E_NOMEM, path);
		goto free_text;
	}
	users->references = 1;
	err = read_rows(path, &text, users);
	if (err < 0)
		goto free_users;
	choose_salting(users);
	qsort(users->rows, users->count, sizeof users->rows[0], by_name);
	err = find_twins(path, users);
	if (err < 0)
		goto free_users;
	*ret_users = users;
	goto free_text;

free_users:
	bus__users_drop(users);
free_text:
	bus__users_text_free(&text);
	return err;
}

struct bus__users *
bus__users_take(struct bus__users *users)
{
	if (users != NULL)
		atomic_fetch_add_explicit(&users->references, 1, memory_order_relaxed);
	return users;
}

void
bus__users_drop(struct bus__users *users)
{
	if (users != NULL &&
	    atomic_fetch_sub_explicit(&users->references, 1, memory_order_acq_rel) == 1) {
		bus__wipe(users->rows, users->count * sizeof users->rows[0]);
		bus__free(users);
	}
}

const struct bus__user *
bus__users_find(const struct bus__users *users, const char *name, size_t name_len)
{
	size_t first = 0, end = users->count;

	if (name_len > BUS__USER_NAME || memchr(name, '\0', name_len) != NULL)
		return NULL;
	while (first < end) {
		size_t middle = first + (end - first) / 2;
		const struct bus__user *user = &users->rows[middle].user;
		int order = strncmp(name, user->name, name_len);

		if (order == 0 && user->name[name_len] == '\0')
			return user;
		if (order > 0)
			first = middle + 1;
		else
			end = middle; /* also where the name is a prefix of a longer one */
	}
	return NULL;
}

size_t
bus__users_count(const struct bus__users *users)
{
	return users->count;
}

const struct bus__user *
bus__users_at(const struct bus__users *users, size_t i)
{
	return &users->rows[i].user;
}

const struct bus__salting *
bus__users_salting(const struct bus__users *users)
{
	return &users->salting;
}
