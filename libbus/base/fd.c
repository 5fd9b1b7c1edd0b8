#include "base/fd.h"

#include <unistd.h>

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
