#define _GNU_SOURCE
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/thread.h"

ssize_t
bus__fd_read(int fd, void *ret_data, size_t len)
{
	int cancel = bus__cancel_off();
	ssize_t got = read(fd, ret_data, len);

	bus__cancel_back(cancel);
	return got;
}

ssize_t
bus__fd_write(int fd, const void *data, size_t len)
{
	int cancel = bus__cancel_off();
	ssize_t put = write(fd, data, len);

	bus__cancel_back(cancel);
	return put;
}

void
bus__fd_close(int fd)
{
	int cancel = bus__cancel_off();

	close(fd);
	bus__cancel_back(cancel);
}

int
bus__fd_above_std(int fd)
{
	int above, error;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	error = errno;
	bus__fd_close(fd);
	errno = error;
	return above;
}

/* Takes the lowest free number: of two threads here at once, each fills one. */
static int
open_null(void)
{
	int cancel = bus__cancel_off();
	int fd = open("/dev/null", O_RDWR);

	/* A root without devices: reads and writes of this fail, as on a closed descriptor. */
	if (fd < 0 && errno != EMFILE && errno != ENFILE)
		fd = open("/", O_PATH);
	if (fd > STDERR_FILENO)
		close(fd); /* another thread was faster */
	bus__cancel_back(cancel);
	return fd;
}

int
bus__fd_fill_std(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open_null() < 0)
			return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
	return 0;
}
