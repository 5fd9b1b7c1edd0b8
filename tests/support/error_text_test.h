/* support/error_text_test.h: looking at the text of a failure. */
#ifndef ERROR_TEXT_TEST_H
#define ERROR_TEXT_TEST_H

#include "world.h"

#include <string.h>

#include <libbus/libbus.h>

#include "base/error_text.h"
#include "bus/bus_internal.h"
#include "bus/notice.h"
#include "log/log.h"

/* The call fails with err, and the text has all these words. */
#define ck_says(call, err, ...)                                                                    \
	do {                                                                                       \
		const char *const words_[] = {__VA_ARGS__};                                        \
		ck_bus(call, err);                                                                 \
		check_words(#call, words_, sizeof words_ / sizeof words_[0]);                      \
	} while (0)

static inline void
check_words(const char *call, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(strstr(bus_error_text(), words[i]) != NULL,
		    "%s says \"%s\", without \"%s\"", call, bus_error_text(), words[i]);
}

static inline struct bus *
open_private(void)
{
	struct bus *bus;

	ck_bus(bus_open(NULL, NULL, &bus), 0);
	return bus;
}

#endif
