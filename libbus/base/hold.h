/* base/hold.h: a file lock that ends with its process, and with nothing else.
 *
 * A record lock of POSIX ends when any code of the process closes any descriptor of the file. A lock of an open file
 * description (OFD) lives on in a forked child, which shares that description. Hence a mapping keeps the description open
 * instead of a descriptor, and no child inherits the mapping (MADV_DONTFORK). */
#ifndef BUS_BASE_HOLD_H
#define BUS_BASE_HOLD_H

/* Keeps the OFD locks of a descriptor until bus__hold_end() or the end of the process, and closes the descriptor. NULL and errno:
 * the system has no memory for that, and the descriptor stays open. A child that is forked during the call may keep the
 * locks, until it executes a program or ends. */
void *bus__hold(int fd);
void bus__hold_end(void *hold);

/* In a forked child (base/fork.c): unmaps the parent's holds if MADV_DONTFORK does nothing. */
void bus__holds_forget(void);

#endif
