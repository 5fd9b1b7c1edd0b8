/* base/fd.h: descriptors, without the cancellation points that read(), write() and close() are. */
#ifndef BUS_BASE_FD_H
#define BUS_BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

ssize_t bus__fd_read(int fd, void *ret_data, size_t len);
ssize_t bus__fd_write(int fd, const void *data, size_t len);
void bus__fd_close(int fd);

#endif
