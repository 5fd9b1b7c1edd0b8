/* base/fd.h: descriptors, without the cancellation points that read(), write() and close() are. */
#ifndef BUS_BASE_FD_H
#define BUS_BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

ssize_t bus__fd_read(int fd, void *ret_data, size_t len);
ssize_t bus__fd_write(int fd, const void *data, size_t len);
void bus__fd_close(int fd);

/* Moves a new descriptor above 2, if it is not: a program that runs without its standard descriptors still writes
 * and reads there. Takes the result of open() and the like: -1 and errno stay; -1 also when there is no other. */
int bus__fd_above_std(int fd);

/* Opens /dev/null as each closed standard descriptor, for libraries that take the lowest free number. It stays open,
 * also in programs executed later. 0, BUS_E_LIMIT or BUS_E_SYS. */
int bus__fd_fill_std(void);

#endif
