#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

#include <libbus/error.h>

#include "base/thread.h"

int
bus__random(void *ret_bytes, size_t len)
{
	uint8_t *at = ret_bytes;

	while (len > 0) {
		int cancel = bus__cancel_off();
		ssize_t got = getrandom(at, len, 0);

		bus__cancel_back(cancel);
		if (got < 0 && errno != EINTR)
			return BUS_E_SYS;
		if (got > 0) {
			at += got;
			len -= (size_t)got;
		}
	}
	return 0;
}
