#define _GNU_SOURCE
#include "access/acl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libbus/error.h>

#include "base/error_text.h"
#include "base/fd.h"
#include "base/mem.h"
#include "topic/name.h"
#include "topic/overlap.h"

enum may { MAY_READ = 1, MAY_WRITE = 2, MAY_NOT = 4 };

/* Stands in sample topics for a level that no line names: no line of a file has this character. */
#define ANY_LEVEL '\x01'

struct rule {
	const char *user; /* ""; of a pattern: NULL */
	const char *filter;
	uint8_t may; /* enum may */
};

struct bus__acl {
	_Atomic uint32_t refs;
	char *text; /* the file, cut into lines and words */
	struct rule *rules;
	size_t count, cap; /* patterns first, then by user */
	size_t patterns;
};

/* --- reading a file ---------------------------------------------------------------------------------------------- */

struct reader {
	struct bus__acl *acl;
	const char *name;
	unsigned line;
	const char *user; /* of the lines that follow */
	char *error;
};

static __attribute__((format(printf, 2, 3))) int
refuse(struct reader *r, const char *format, ...)
{
	va_list args;
	int len = snprintf(r->error, BUS__ACL_ERROR, "%.200s: line %u: ", r->name, r->line);

	va_start(args, format);
	vsnprintf(r->error + len, BUS__ACL_ERROR - (size_t)len, format, args);
	va_end(args);
	return BUS_E_INVAL;
}

/* Cuts a word off the line. The line then begins at the next word. */
static char *
cut_word(char *line)
{
	char *end = line + strcspn(line, " \t");

	if (*end == '\0')
		return end;
	*end = '\0';
	return end + 1 + strspn(end + 1, " \t");
}

static int
add_rule(struct reader *r, bool is_pattern, uint8_t may, const char *filter)
{
	struct bus__acl *acl = r->acl;
	size_t cap = acl->cap == 0 ? 16 : acl->cap * 2;
	struct rule *rules;

	if (acl->count == BUS__ACL_RULES)
		return refuse(r, "more than %d lines with topic or pattern: join some with + and #",
		    BUS__ACL_RULES);
	if (acl->count == acl->cap) {
		rules = bus__realloc(acl->rules, cap * sizeof *rules);
		if (rules == NULL)
			return BUS_E_NOMEM;
		acl->rules = rules;
		acl->cap = cap;
	}
	acl->rules[acl->count++] = (struct rule){is_pattern ? NULL : r->user, filter, may};
	acl->patterns += is_pattern;
	return 0;
}

/* %u is a whole level of a pattern, and nowhere else. */
static int
check_percent(struct reader *r, bool is_pattern, const char *filter)
{
	for (const char *at = filter; (at = strchr(at, '%')) != NULL; at++) {
		if (at[1] == 'c')
			return refuse(r,
			    "%.100s: %%c is an MQTT client id, and a link has none: give each device a user and "
			    "write pattern ... %%u",
			    filter);
		if (at[1] != 'u')
			continue;
		if (!is_pattern)
			return refuse(r,
			    "%.100s: %%u works in pattern lines only: write pattern instead of topic",
			    filter);
		if ((at > filter && at[-1] != '/') || (at[2] != '\0' && at[2] != '/'))
			return refuse(r,
			    "%.100s: %%u must be a whole level: write home/%%u/#, not home/x%%u",
			    filter);
	}
	return 0;
}

static const struct access {
	const char *word;
	uint8_t may;
} accesses[] = {
    {"read", MAY_READ},
    {"write", MAY_WRITE},
    {"readwrite", MAY_READ | MAY_WRITE},
    {"deny", MAY_NOT},
};

static const struct access *
find_access(const char *word)
{
	for (size_t i = 0; i < sizeof accesses / sizeof accesses[0]; i++)
		if (strcmp(word, accesses[i].word) == 0)
			return &accesses[i];
	return NULL;
}

/* "[ACCESS] FILTER"; after an access the filter may contain blanks. */
static int
read_rule(struct reader *r, bool is_pattern, char *filter)
{
	const char *what = is_pattern ? "pattern" : "topic";
	uint8_t may = MAY_READ | MAY_WRITE;
	char *rest = cut_word(filter);
	const struct access *access = find_access(filter);
	size_t len;
	int err;

	if (*filter == '\0' || (access != NULL && *rest == '\0'))
		return refuse(r, "the filter is missing: write %s read sensors/#", what);
	if (access == NULL && *rest != '\0')
		return refuse(r,
		    "\"%.40s\": unknown access: write %s read, write, readwrite or deny, then the filter",
		    filter, what);
	if (access != NULL) {
		may = access->may;
		filter = rest;
	}
	err = check_percent(r, is_pattern, filter);
	if (err < 0)
		return err;
	err = bus__filter_check(filter, &len);
	if (err < 0) {
		bus__fail_name(err, filter);
		return refuse(r, "%.300s", bus_error_text());
	}
	return add_rule(r, is_pattern, may, filter);
}

static int
read_topic(struct reader *r, char *rest)
{
	return read_rule(r, false, rest);
}

static int
read_pattern(struct reader *r, char *rest)
{
	return read_rule(r, true, rest);
}

static int
read_user(struct reader *r, char *rest)
{
	if (*rest == '\0')
		return refuse(r,
		    "the name is missing: write user pico; lines for peers without a user stand before the "
		    "first user");
	if (strlen(rest) > BUS__ACL_USER)
		return refuse(
		    r, "\"%.40s...\": a user's name has at most %d bytes", rest, BUS__ACL_USER);
	r->user = rest;
	return 0;
}

static const struct keyword {
	const char *word;
	int (*read)(struct reader *r, char *rest);
} keywords[] = {
    {"user", read_user},
    {"topic", read_topic},
    {"pattern", read_pattern},
};

static int
read_line(struct reader *r, char *line)
{
	size_t len;
	char *rest;

	line += strspn(line, " \t");
	len = strlen(line);
	while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL)
		line[--len] = '\0';
	if (len == 0 || line[0] == '#')
		return 0;
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
			return refuse(r, "a control character: save the file as plain text");
	rest = cut_word(line);
	for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
		if (strcmp(line, keywords[i].word) == 0)
			return keywords[i].read(r, rest);
	return refuse(
	    r, "\"%.40s\": unknown word: a line begins with user, topic, pattern or #", line);
}

static int
by_user(const void *a, const void *b)
{
	const struct rule *x = a, *y = b;

	if (x->user == NULL || y->user == NULL)
		return (x->user != NULL) - (y->user != NULL);
	return strcmp(x->user, y->user);
}

static int
read_text(struct reader *r, size_t len)
{
	char *text = r->acl->text, *line = text, *end;
	int err = 0;

	/* Some editors write a byte order mark. */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		line += 3;
	for (; err == 0 && line < text + len; line = end + 1) {
		r->line++;
		end = memchr(line, '\n', (size_t)(text + len - line));
		if (end == NULL)
			end = text + len;
		*end = '\0';
		if (strlen(line) < (size_t)(end - line))
			return refuse(r, "a NUL byte: save the file as plain text");
		err = read_line(r, line);
	}
	if (err == 0 && r->acl->count > 0)
		qsort(r->acl->rules, r->acl->count, sizeof *r->acl->rules, by_user);
	return err;
}

static int
refuse_size(const char *name, char ret_error[BUS__ACL_ERROR])
{
	snprintf(ret_error, BUS__ACL_ERROR,
	    "%.200s: larger than %d bytes: join lines with + and #, or pattern", name,
	    BUS__ACL_BYTES);
	return BUS_E_INVAL;
}

/* Sets the error text unless there is a more exact one. */
static void
say_no_memory(const char *name, char ret_error[BUS__ACL_ERROR])
{
	snprintf(ret_error, BUS__ACL_ERROR, "%.200s: %s", name, bus_strerror(BUS_E_NOMEM));
}

/* Takes ownership of the text, also on failure. The text ends with a NUL. */
static int
parse(const char *name, char *text, size_t len, struct bus__acl **ret_acl,
    char ret_error[BUS__ACL_ERROR])
{
	struct bus__acl *acl = bus__calloc(1, sizeof *acl);
	struct reader reader = {.acl = acl, .name = name, .user = "", .error = ret_error};
	int err;

	if (acl == NULL) {
		bus__free(text);
		return BUS_E_NOMEM;
	}
	atomic_init(&acl->refs, 1);
	acl->text = text;
	err = read_text(&reader, len);
	if (err < 0)
		bus__acl_unref(acl);
	else
		*ret_acl = acl;
	return err;
}

int
bus__acl_parse(const char *name, const void *bytes, size_t len, struct bus__acl **ret_acl,
    char ret_error[BUS__ACL_ERROR])
{
	char *text;

	say_no_memory(name, ret_error);
	if (len > BUS__ACL_BYTES)
		return refuse_size(name, ret_error);
	text = bus__calloc(1, len + 1);
	if (text == NULL)
		return BUS_E_NOMEM;
	if (len > 0)
		memcpy(text, bytes, len);
	return parse(name, text, len, ret_acl, ret_error);
}

static int
refuse_file(const char *path, char ret_error[BUS__ACL_ERROR])
{
	int err = errno == ENOMEM ? BUS_E_NOMEM : BUS_E_SYS;

	snprintf(ret_error, BUS__ACL_ERROR, "%.200s: cannot be read: %s", path, strerror(errno));
	return err;
}

static int
read_file(int fd, const char *path, struct bus__acl **ret_acl, char ret_error[BUS__ACL_ERROR])
{
	struct stat st;
	size_t len = 0;
	ssize_t n;
	char *text, *smaller;

	if (fstat(fd, &st) != 0)
		return refuse_file(path, ret_error);
	if (!S_ISREG(st.st_mode)) {
		snprintf(ret_error, BUS__ACL_ERROR,
		    "%.200s: not a regular file: name the ACL file itself", path);
		return BUS_E_INVAL;
	}
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		snprintf(ret_error, BUS__ACL_ERROR,
		    "%.200s: other users can write it: run chmod go-w, then check its lines", path);
		return BUS_E_DENIED;
	}
	text = bus__malloc(BUS__ACL_BYTES + 2);
	if (text == NULL)
		return BUS_E_NOMEM;
	while ((n = bus__fd_read(fd, text + len, BUS__ACL_BYTES + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0 || len > BUS__ACL_BYTES) {
		int err = n < 0 ? refuse_file(path, ret_error) : refuse_size(path, ret_error);

		bus__free(text);
		return err;
	}
	text[len] = '\0';
	smaller = bus__realloc(text, len + 1);
	return parse(path, smaller != NULL ? smaller : text, len, ret_acl, ret_error);
}

int
bus__acl_load(const char *path, struct bus__acl **ret_acl, char ret_error[BUS__ACL_ERROR])
{
	int fd = bus__fd_above_std(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)), err;

	say_no_memory(path, ret_error);
	if (fd < 0)
		return refuse_file(path, ret_error);
	err = read_file(fd, path, ret_acl, ret_error);
	bus__fd_close(fd);
	return err;
}

struct bus__acl *
bus__acl_ref(struct bus__acl *acl)
{
	if (acl != NULL)
		atomic_fetch_add_explicit(&acl->refs, 1, memory_order_relaxed);
	return acl;
}

void
bus__acl_unref(struct bus__acl *acl)
{
	/* Release and acquire: the thread that frees it does so after the reads of all others. */
	if (acl == NULL || atomic_fetch_sub_explicit(&acl->refs, 1, memory_order_acq_rel) > 1)
		return;
	bus__free(acl->rules);
	bus__free(acl->text);
	bus__free(acl);
}

/* --- looking up ------------------------------------------------------------------------------------------------------ */

/* Walks the lines for a user: first the patterns, then its own. */
struct asking {
	const struct bus__acl *acl;
	const char *user;
	size_t at, end;
	char filter[BUS_LIMIT_TOPIC_BYTES + 1]; /* of a pattern, with the name in it */
};

static void
ask(struct asking *asking, const struct bus__acl *acl, const char *user)
{
	asking->acl = acl;
	asking->user = user != NULL ? user : "";
	asking->at = 0;
	asking->end = acl->patterns;
}

/* Puts the user's name in place of a pattern's %u. A name that is more than one level, or a wildcard, is allowed nothing; a
 * pattern's deny then counts for all names. false: the line is not about this user. */
static bool
fill_pattern(struct asking *asking, const struct rule *rule)
{
	const char *at = rule->filter, *user = asking->user;
	bool is_level = user[0] != '\0' && strpbrk(user, "/+#") == NULL;
	size_t len = 0, name = strlen(user);

	if (strstr(at, "%u") == NULL) {
		strcpy(asking->filter, at);
		return true;
	}
	if (!is_level && rule->may != MAY_NOT)
		return false;
	for (;;) {
		size_t level = bus__level_len(at);
		bool is_name = level == 2 && memcmp(at, "%u", 2) == 0;

		if (is_name && !is_level) {
			strcpy(asking->filter + len, "#");
			return true;
		}
		if (len + (is_name ? name : level) + 1 > BUS_LIMIT_TOPIC_BYTES)
			return false; /* longer than any topic */
		memcpy(asking->filter + len, is_name ? user : at, is_name ? name : level);
		len += is_name ? name : level;
		at += level;
		asking->filter[len] = *at;
		if (*at == '\0')
			return true;
		at++;
		len++;
	}
}

static size_t
first_of(const struct bus__acl *acl, const char *user)
{
	size_t low = acl->patterns, high = acl->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(acl->rules[mid].user, user) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The next line, NULL: there is none. Its filter is *ret_filter until the next one. */
static const struct rule *
next_rule(struct asking *asking, const char **ret_filter)
{
	const struct bus__acl *acl = asking->acl;

	while (asking->at < acl->patterns) {
		const struct rule *rule = &acl->rules[asking->at++];

		if (fill_pattern(asking, rule)) {
			*ret_filter = asking->filter;
			return rule;
		}
	}
	if (asking->at == asking->end && asking->end == acl->patterns) {
		asking->at = first_of(acl, asking->user);
		asking->end = acl->count;
	}
	if (asking->at == acl->count || strcmp(acl->rules[asking->at].user, asking->user) != 0)
		return NULL;
	*ret_filter = acl->rules[asking->at].filter;
	return &acl->rules[asking->at++];
}

/* Separate, for its large stack frame. */
static __attribute__((noinline)) bool
may(const struct bus__acl *acl, const char *user, const char *topic, enum may what)
{
	const struct rule *rule;
	struct asking asking;
	const char *filter;
	bool allowed = false;

	if (topic[0] == '$')
		return false;
	if (acl == NULL)
		return true;
	ask(&asking, acl, user);
	while ((rule = next_rule(&asking, &filter)) != NULL) {
		if ((rule->may & (what | MAY_NOT)) == 0 || !bus__filter_covers(filter, topic))
			continue;
		if (rule->may == MAY_NOT)
			return false;
		allowed = true;
	}
	return allowed;
}

bool
bus__acl_may_read(const struct bus__acl *acl, const char *user, const char *topic)
{
	return may(acl, user, topic, MAY_READ);
}

bool
bus__acl_may_write(const struct bus__acl *acl, const char *user, const char *topic)
{
	return may(acl, user, topic, MAY_WRITE);
}

/* Whether the user may read some topic that matches the filter; the filter matches nothing that is not allowed. Tries a topic whose
 * wildcards are levels that no line names: a line that denies this topic denies all others of the same number of levels, and if no
 * line does, the user may read this one. */
static bool
is_left(const struct bus__acl *acl, const char *user, char filter[BUS_LIMIT_TOPIC_BYTES + 1])
{
	size_t len = strlen(filter), levels = 1;
	bool is_open = filter[len - 1] == '#';

	for (size_t i = 0; i < len; i++) {
		levels += filter[i] == '/';
		if (filter[i] == '+')
			filter[i] = ANY_LEVEL;
	}
	if (!is_open)
		return may(acl, user, filter, MAY_READ);
	/* The filter's parent, unless empty, then one level, two levels, ... */
	if (len > 2) {
		filter[len - 2] = '\0';
		if (may(acl, user, filter, MAY_READ))
			return true;
		filter[len - 2] = '/';
	}
	for (; levels <= BUS_LIMIT_TOPIC_LEVELS && len <= BUS_LIMIT_TOPIC_BYTES; levels++) {
		filter[len - 1] = ANY_LEVEL;
		filter[len] = '\0';
		if (may(acl, user, filter, MAY_READ))
			return true;
		if (len + 2 > BUS_LIMIT_TOPIC_BYTES)
			break;
		filter[len] = '/';
		len += 2;
	}
	return false;
}

/* Separate, for its large stack frame. */
static __attribute__((noinline)) bool
brings(const struct bus__acl *acl, const char *user, const char *allowed, const char *filter)
{
	char both[BUS_LIMIT_TOPIC_BYTES + 1];

	return bus__filter_overlap(allowed, filter, both) && is_left(acl, user, both);
}

bool
bus__acl_may_subscribe(const struct bus__acl *acl, const char *user, const char *filter)
{
	const struct rule *rule;
	struct asking asking;
	const char *allowed;

	if (filter[0] == '$')
		return false;
	if (acl == NULL)
		return true;
	ask(&asking, acl, user);
	while ((rule = next_rule(&asking, &allowed)) != NULL)
		if ((rule->may & MAY_READ) != 0 && brings(acl, user, allowed, filter))
			return true;
	return false;
}
