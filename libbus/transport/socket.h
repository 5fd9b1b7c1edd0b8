/* transport/socket.h: sockets of ipc and tcp addresses, with their options. None of these calls blocks. */
#ifndef BUS_TRANSPORT_SOCKET_H
#define BUS_TRANSPORT_SOCKET_H

#include <stdbool.h>

#include "link/url.h"

/* A socket that listens at addr, whose port 0 becomes the real one. 0, or BUS_E_*; BUS_E_SYS with its errno.
 * Threads: any. */
int bus__socket_listen(struct bus__address *addr, int *ret_fd);

/* The next connection of a listening socket; -1 and errno, EAGAIN: there is none. */
int bus__socket_accept(int fd);

/* A socket that is connected to addr. *ret_connects: not yet; epoll reports the end (EPOLLOUT), and bus__socket_connected()
 * the result. */
int bus__socket_connect(const struct bus__address *addr, int *ret_fd, bool *ret_connects);

/* The errno of a completed attempt, 0: it is connected. */
int bus__socket_connected(int fd);

/* The BUS_E_* of an errno. */
int bus__socket_error(int error);

#endif
