/* libbus/error.h: error numbers.
 * One list feeds the enum, bus_strerror(), bus_errname() and the Python exceptions. A value never
 * changes its meaning; new ones are added at the end. Each text says what to do next. */
#ifndef LIBBUS_ERROR_H
#define LIBBUS_ERROR_H

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text) */
#define BUS_ERRORS(X)                                                                                 \
	X(NOMEM, -1, "out of memory: the call changed nothing; free memory, then call again")               \
	X(INVAL, -2, "bad argument: a pointer is NULL, a size field unset or a value out of its range")   \
	X(CLOSED, -3, "closed: this object or its bus has ended; open a new one")                         \
	X(FULL, -4, "full: a mailbox that refuses has no room, or stopped processes hold the whole log; drain the mailbox, raise its bytes, or end those processes") \
	X(TIMEDOUT, -5, "timed out: not done in the time given; allow more time, or find out why it is slow") \
	X(STATE, -6, "wrong place: a callback may not close or flush its bus, nor dispatch its own mailbox; call after the callback has returned") \
	X(FORKED, -7, "forked: this bus belongs to the parent process; open a new one in the child")      \
	X(LIMIT, -8, "limit reached: bus_error_text() names it; raise the limit, or close something first") \
	X(NOTSUP, -9, "not supported on this kind of bus or by this build: the function's comment in the header lists where it works") \
	X(SYS, -10, "the system refused: errno says why")                                                 \
	X(TOPIC_EMPTY, -11, "empty: a topic or filter has at least one character, like sensors/pi/temp")  \
	X(TOPIC_LONG, -12, "too long: a topic or filter has at most 1024 bytes and 32 levels")            \
	X(TOPIC_BYTES, -13, "topic is not text: use UTF-8 without NUL bytes")                             \
	X(TOPIC_WILDCARD, -14, "topic has + or #: wildcards are for filters, a publish names one topic")  \
	X(TOPIC_RESERVED, -15, "topic begins with $: those belong to the bus itself, choose another name") \
	X(FILTER, -16, "malformed filter: + stands alone in a level, # alone in the last one")            \
	X(TOO_BIG, -17, "payload too big: split it, or raise max_payload of the bus (1 MiB by default), or log_bytes of a named bus (16 times as much)") \
	X(SCHEME, -18, "unknown scheme: use inproc://name, ipc:///path, tcp://host:port or one that bus_transport_register() added") \
	X(ADDRESS, -19, "malformed address: write inproc://name, ipc:///absolute/path (107 bytes at most) or tcp://host:port, with a host known here") \
	X(ADDRESS_TAKEN, -20, "address in use: another program listens there; choose another or end it")  \
	X(NOT_A_SOCKET, -21, "the path holds something that is not our socket: left untouched, choose another") \
	X(NOT_LOOPBACK, -22, "address beyond this machine, and clear text is not protected: use tls://, allow_lan with users inside this network, or 127.0.0.1") \
	X(DENIED, -23, "not allowed: the other end, or the directory of the socket or the log, belongs to another user, or others may write to the directory (give it mode 0700)") \
	X(REFUSED, -24, "connection refused: nothing listens at that address; start the other side, or check the address") \
	X(NOT_LIBBUS, -25, "the peer does not speak libbus: check which program listens on that address") \
	X(VERSION, -26, "the peer speaks another version of the libbus protocol: update the older side")  \
	X(PROTOCOL, -27, "the peer broke the libbus protocol: the connection was closed")                 \
	X(GONE, -28, "the peer left: a dialling link reconnects by itself")                                \
	X(DECODE, -29, "not valid: truncated, too deep, too large, or not what its content type says")    \
	X(EXIST, -30, "already there: these two buses are linked, or are one; close this link")           \
	X(NOBODY, -31, "no responder: nothing subscribes to the request's topic; start the program that replies, or link to its bus") \
	X(NOSPACE, -32, "no room for the bus's log: free space in its directory (df shows it), raise the limit on file sizes (ulimit -f), or configure another directory or a smaller log") \
	X(DAMAGED, -33, "the bus's log is damaged: another program overwrote it; stop every process on this bus, then start again") \
	X(RESET, -34, "that position is from an earlier life of the bus, whose messages are gone: start at the oldest message, or from now") \
	X(LOCKED, -35, "no more memory can be locked: after mlockall(MCL_FUTURE) a log or a thread's stack counts; raise RLIMIT_MEMLOCK (ulimit -l), or lock less") \
	X(AUTH, -36, "user or password not accepted: check both, or add the user where the address is opened: libbus user add") \
	X(TLS, -37, "TLS failed: libbus explain BUS --peers shows the reason (certificate, name or clock)")

enum bus_error {
#define BUS_ERROR_ENUM(name, value, text) BUS_E_##name = value,
	BUS_ERRORS(BUS_ERROR_ENUM)
#undef BUS_ERROR_ENUM
};

/* Returns one sentence on what err means and what to do next; static storage, never NULL.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API const char *bus_strerror(int err);

/* Returns one sentence about this thread's last failed call: the object, the limit and what to do next, as in
 * "plant/temp: payload too big: 2000000 bytes, …". A failure without details has the text of bus_strerror(). Before the
 * first failure the text is that of 0. A successful call leaves the text as it is; a bus_pub_send_many() that stops early
 * has failed. One line of UTF-8, cut at 319 bytes. Its wording may change: compare error numbers.
 * Read it before the thread's next call; the thread owns the buffer.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. Not for signal handlers. */
BUS_API const char *bus_error_text(void);

/* Returns the name, "BUS_E_FULL"; "BUS_OK" for 0 and counts, "BUS_E_?" for a number not in the list.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API const char *bus_errname(int err);

#ifdef __cplusplus
}
#endif
#endif
