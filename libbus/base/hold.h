/* base/hold.h: a file lock that ends with its process, and with nothing else.
 *
 * A record lock of POSIX ends when any code of the process closes any descriptor of the file. One of an open file
 * description (OFD) lives on in a forked child, which has that description too. Hence such a description is kept open by
 * a mapping instead of a descriptor, and no child inherits the mapping (MADV_DONTFORK). */
#ifndef BUS_BASE_HOLD_H
#define BUS_BASE_HOLD_H

/* Keeps the OFD locks of a descriptor, which is closed, until bus__hold_end() or the end of the process. NULL and errno:
 * the system has no memory for that, and the descriptor stays open. A child that is forked during the call may keep the
 * locks, until it executes a program or ends. */
void *bus__hold(int fd);
void bus__hold_end(void *hold);

/* In a forked child (base/fork.c): lets go of what the parent holds where MADV_DONTFORK does nothing. */
void bus__holds_forget(void);

#endif
