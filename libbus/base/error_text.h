/* base/error_text.h: the sentence of a thread's last failed call, for bus_error_text().
 *
 * A public call sets it once, when it is certain to fail. A call that succeeds leaves the text of the last failure.
 * A sentence begins with the object, "plant/temp: ", and ends with the next step. */
#ifndef BUS_BASE_ERROR_TEXT_H
#define BUS_BASE_ERROR_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include <libbus/error.h>

/* The part of a topic, name or address that a sentence shows: for printf. */
#define BUS__SHOWN "%.80s"

/* Formats the sentence and returns err. Keeps errno. Cuts longer texts; bytes that are not printable text become '?'. */
int bus__fail(int err, const char *format, ...)
    __attribute__((cold, noinline, format(printf, 2, 3)));

/* The same as "subject: " and bus_strerror(err), or the system's reason with BUS_E_SYS. NULL: no subject. */
int bus__fail_about(int err, const char *subject) __attribute__((cold, noinline));

/* Ends a public call: an error without a sentence gets bus_strerror()'s text; 0 and counts pass through. */
static inline int
bus__answer(int err)
{
	return err < 0 ? bus__fail_about(err, NULL) : err;
}

/* Takes the sentence of the last failure: for the extension, which raises some errors without a call. NULL: none, or of
 * another error, or taken already. */
const char *bus__take_error_text(int err);

/* A thread's last failure. */
struct bus__said {
	int err;        /* 0: no call has failed */
	bool fresh;     /* the sentence is not taken yet */
	char text[320]; /* "": use bus_strerror() */
};

/* Around callbacks that run after a call has set its sentence and before it returns: theirs must not replace it. */
void bus__save_error_text(struct bus__said *ret_said);
void bus__restore_error_text(const struct bus__said *said);

#endif
