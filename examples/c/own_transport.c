/* A custom transport: fifo:///path. A listener has a FIFO at path. A dialler writes the names of a new pair of FIFOs into it,
 * one for each direction. A handle is two descriptors, to read and to write. docs/guide/own-transport.md */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libbus/libbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void
fifo_close(void *handle)
{
	close(((int *)handle)[0]);
	close(((int *)handle)[1]);
	free(handle);
}

static int
fifo_open(const char *in, const char *out, int how, void **ret_handle)
{
	int *fd = calloc(2, sizeof *fd);

	if (fd == NULL)
		return BUS_E_NOMEM;
	fd[1] = open(out, how | O_NONBLOCK | O_CLOEXEC); /* O_WRONLY: fails without a reader */
	fd[0] = in == NULL ? -1 : open(in, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	*ret_handle = fd;
	if (fd[1] >= 0 && lseek(fd[1], 0, SEEK_CUR) < 0 && (in == NULL || fd[0] >= 0))
		return 0;
	fifo_close(fd); /* no reader, or a file of another kind, which is left alone */
	return BUS_E_SYS;
}

static int
fifo_listen(void *arg, const char *path, void **ret_listener)
{
	(void)arg;
	if (fifo_open(NULL, path, O_WRONLY, ret_listener) == 0)
		return fifo_close(*ret_listener), BUS_E_ADDRESS_TAKEN;
	mkfifo(path, 0600); /* an existing FIFO stays, as a device would */
	return fifo_open(path, path, O_RDWR, ret_listener);
}

static int
fifo_accept(void *listener, int timeout_ms, void **ret_conn)
{
	struct pollfd in = {((int *)listener)[0], POLLIN, 0};
	char pair[2][300];

	if (poll(&in, 1, timeout_ms) != 1 || read(in.fd, pair, sizeof pair) != sizeof pair)
		return BUS_E_TIMEDOUT;
	return fifo_open(pair[0], pair[1], O_RDWR, ret_conn) < 0 ? BUS_E_TIMEDOUT
								 : 0; /* the peer closed its end */
}

static int
fifo_dial(void *arg, const char *path, int timeout_ms, void **ret)
{
	static _Atomic unsigned count;
	int err = BUS_E_REFUSED, asked, out;
	char pair[2][300] = {{0}}; /* less than PIPE_BUF: read as it was written */
	void *door;

	(void)arg;
	if (fifo_open(NULL, path, O_WRONLY, &door) < 0)
		return BUS_E_REFUSED;
	for (int i = 0; i < 2; i++) {
		snprintf(pair[i], sizeof pair[i], "%s.%d.%u", path, (int)getpid(), count++);
		mkfifo(pair[i], 0600);
	}
	out = ((int *)door)[1];
	asked = write(out, pair, sizeof pair) == sizeof pair;
	while (asked && timeout_ms-- > 0 && (err = fifo_open(pair[1], pair[0], O_WRONLY, ret)) < 0)
		asked = poll(&(struct pollfd){out, 0, 0}, 1, 1) == 0;
	unlink(pair[0]);
	unlink(pair[1]);
	fifo_close(door);
	return err;
}

static int
fifo_send(void *conn, const void *data, size_t len, int timeout_ms)
{
	struct pollfd out = {((int *)conn)[1], POLLOUT, 0};

	return poll(&out, 1, timeout_ms) == 1 ? (int)write(out.fd, data, len) : BUS_E_TIMEDOUT;
}

static int
fifo_recv(void *conn, void *ret_data, size_t cap, int timeout_ms)
{
	struct pollfd in = {((int *)conn)[0], POLLIN, 0};

	return poll(&in, 1, timeout_ms) == 1 ? (int)read(in.fd, ret_data, cap) : BUS_E_TIMEDOUT;
}

const struct bus_transport own_transport = {sizeof own_transport, "fifo", NULL, fifo_listen,
    fifo_accept, fifo_dial, fifo_send, fifo_recv, fifo_close};
