#define _POSIX_C_SOURCE 200809L
#include "base/error_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { TEXT_BYTES = 320 };

/* Each copy of the library, as in the Python extension, has its own. No initial-exec model: a library that dlopen() loads
 * may find no static room for it. A thread touches it with its first failure, not before; a child inherits that of the
 * thread that forked. */
static _Thread_local struct {
	int err;               /* 0: no call has failed */
	bool fresh;            /* the sentence was not taken yet */
	char text[TEXT_BYTES]; /* "": bus_strerror() says it */
} last;

/* Topics and addresses in the text are of any bytes; terminals and Python want text. */
static void
make_printable(char *text)
{
	size_t len = strlen(text), at = 0;

	while (at < len) {
		size_t n = 1;

		while (n < 4 && at + n < len && ((unsigned char)text[at + n] & 0xC0) == 0x80)
			n++;
		if ((unsigned char)text[at] < ' ' || text[at] == 0x7f ||
		    !bus__utf8_valid(text + at, n)) {
			text[at] = '?';
			n = 1;
		}
		at += n;
	}
}

int
bus__fail(int err, const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	vsnprintf(last.text, sizeof last.text, format, args);
	va_end(args);
	make_printable(last.text);
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
