#define _POSIX_C_SOURCE 200809L
#include "base/error_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Each copy of the library, such as the Python extension, has its own. Not the initial-exec model: a library that dlopen() loads
 * may find no static room for it. A thread touches it with its first failure; a child inherits that of the
 * thread that forked. */
static _Thread_local struct bus__said last;

/* Whether the last bytes are a character that the end of the buffer cut. */
static bool
is_cut(const char *text, size_t len)
{
	size_t n = 1;

	while (n < len && ((unsigned char)text[n] & 0xC0) == 0x80)
		n++;
	return n == len && n < 4 && (unsigned char)text[0] >= 0xC2;
}

/* Topics and addresses may contain any bytes; terminals and Python need text. */
static void
make_printable(char *text, bool cut)
{
	size_t len = strlen(text), at = 0;

	for (;;) {
		size_t end = at + bus__utf8_valid_bytes(text + at, len - at);

		for (; at < end; at++)
			if ((unsigned char)text[at] < ' ' || text[at] == 0x7f)
				text[at] = '?';
		if (at == len)
			return;
		if (cut && is_cut(text + at, len - at)) {
			text[at] = '\0';
			return;
		}
		text[at++] = '?';
	}
}

int
bus__fail(int err, const char *format, ...)
{
	int saved = errno, len;
	va_list args;

	va_start(args, format);
	len = vsnprintf(last.text, sizeof last.text, format, args);
	va_end(args);
	make_printable(last.text, len >= (int)sizeof last.text);
	last.err = err;
	last.fresh = true;
	errno = saved;
	return err;
}

int
bus__fail_about(int err, const char *subject)
{
	int saved = errno;
	char reason[128];

	if (err == BUS_E_SYS && saved != 0 && strerror_r(saved, reason, sizeof reason) == 0) {
		errno = saved;
		return subject != NULL
			   ? bus__fail(err, BUS__SHOWN ": the system refused: %s", subject, reason)
			   : bus__fail(err, "the system refused: %s", reason);
	}
	errno = saved;
	if (subject == NULL) {
		last.err = err;
		last.text[0] = '\0';
		return err;
	}
	return bus__fail(
	    err, BUS__SHOWN ": %s", subject[0] != '\0' ? subject : "''", bus_strerror(err));
}

void
bus__save_error_text(struct bus__said *ret_said)
{
	*ret_said = last;
}

void
bus__restore_error_text(const struct bus__said *said)
{
	last = *said;
}

const char *
bus__take_error_text(int err)
{
	bool fresh = last.err == err && last.fresh && last.text[0] != '\0';

	last.fresh = false;
	return fresh ? last.text : NULL;
}

const char *
bus_error_text(void)
{
	return last.text[0] != '\0' ? last.text : bus_strerror(last.err);
}
