/* base/fd.h: descriptors, without the cancellation points that read(), write() and close() are. */
#ifndef BUS_BASE_FD_H
#define BUS_BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

ssize_t bus__fd_read(int fd, void *ret_data, size_t len);
ssize_t bus__fd_write(int fd, const void *data, size_t len);
void bus__fd_close(int fd);

/* Moves a new descriptor above 2, where it is not: a program that runs without its standard descriptors still writes
 * and reads there. Takes what open() and the like answered: -1 and errno stay; -1 also when there is no other. */
int bus__fd_above_std(int fd);

/* Opens /dev/null as each standard descriptor that is closed, for libraries that take the lowest free number. It stays,
 * for programs that are executed later too. 0, BUS_E_LIMIT or BUS_E_SYS. */
int bus__fd_fill_std(void);

#endif
