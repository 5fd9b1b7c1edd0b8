/* libbus/bus.h: topics, mailboxes, subscriptions.
 *
 * Functions return 0 or a count, or a negative BUS_E_* (error.h).
 * In a struct that begins with `size`, set .size to its sizeof and unused fields to 0. In a config 0 means the
 * default, and NULL means all defaults. Structs grow only at their end, so a program also runs with an older or a newer
 * libbus than it was compiled with. Fields that its header lacks count as 0. Fields that the library lacks must be 0
 * (BUS_E_INVAL otherwise); in counters they come back as 0. A size below that of the struct's first version or above 4,096
 * is BUS_E_INVAL. A message from the library has the library's size: a field is there if it ends within msg->size. A copy
 * of such a message that you make by assignment holds what your header knows: set its .size to its sizeof.
 * timeout_ms: 0 does not wait, negative has no limit.
 * A signal handler that runs on a thread while it sleeps inside a call ends the wait, with SA_RESTART or without:
 * bus_recv() and bus_dispatch() return 0, so that `while (!stop)` around them ends; without a limit bus_flush(),
 * bus_role_take() and bus_request() return BUS_E_TIMEDOUT (a repeated bus_request() asks again), with one they go on.
 * Sends that wait and the closing calls go on. A handler that runs between two sleeps of a call does not end it: give
 * the wait a limit, or block the signal and use signalfd() beside bus_mailbox_fd().
 * Any call may also return BUS_E_LIMIT when the system has no more threads or descriptors, and BUS_E_LOCKED when, after
 * mlockall(), a log or a thread's stack exceeds RLIMIT_MEMLOCK.
 * A thread that calls the library needs 32 KiB of stack, plus the needs of its callbacks and signal handlers. (Name
 * look-ups of tcp:// addresses may need more; they run on a separate thread.)
 * No call is a cancellation point: pthread_cancel() (deferred, as threads begin) takes effect after it. Asynchronous
 * cancellation is not supported. Callbacks run with cancellation off.
 * A signal handler may call bus_strerror(), bus_errname(), bus_version() and, on an open handle of a named bus,
 * bus_pub_send(), which returns BUS_E_STATE if the handler interrupted a publish of its own thread. Any other call of the
 * library may hang, since the handler may have interrupted a call that holds a lock. Set a flag or write to a pipe instead.
 * A handler must return: leaving a publish by longjmp() blocks the later publishes of the process.
 * BUS_E_DAMAGED: another program overwrote the log of a named bus. Once a call of a process has found the damage, all its
 * publishing, receiving and waiting calls on this bus return BUS_E_DAMAGED at once, and its subscribers to $bus/warnings
 * receive a warning. Each process detects the damage separately.
 * The library never uses descriptors 0, 1 and 2.
 * After fork() every call on an inherited object returns BUS_E_FORKED. The child opens its own bus and links. (With
 * -Dstreams=nng its ipc and tcp links return BUS_E_FORKED too if the parent had any.)
 * Objects outlive their bus: after bus_close() their calls return BUS_E_CLOSED until the object is closed too;
 * counters and addresses can still be read. */
#ifndef LIBBUS_BUS_H
#define LIBBUS_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/error.h>
#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
/* bus_stats() is beside struct bus_stats as stat() is beside struct stat; g++ -Wshadow warns of such pairs. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

struct bus;         /* topics and their subscribers: in this process, or in all processes that open its name on this host */
struct bus_mailbox; /* bounded queue with one drainer at a time */
struct bus_sub;     /* one filter bound to one mailbox */
struct bus_pub;     /* one topic, resolved; used by one thread at a time */
struct bus_request; /* a pending request */

enum bus_limit {
	BUS_LIMIT_TOPIC_BYTES  = 1024,
	BUS_LIMIT_TOPIC_LEVELS = 32,
	BUS_LIMIT_MEMBERS      = 1022 /* processes on a named bus at a time */
};

/* Content of a payload. An open set from 0 to 255: pass on what you do not know. */
enum bus_type {
	BUS_TYPE_UNTAGGED, /* no type given; pack.h reads it as JSON, else text, else bytes */
	BUS_TYPE_MSGPACK,
	BUS_TYPE_BYTES,
	BUS_TYPE_JSON,
	BUS_TYPE_TEXT
};

enum bus_msg_flag {
	BUS_MSG_RETAIN = 1u << 0, /* publishing: keep as the topic's value; an empty payload deletes the value. On linked
	                           * buses the last change wins; after an outage, the side with more changes */
	BUS_MSG_KEPT   = 1u << 1, /* receiving: a kept value, not a new event */
	BUS_MSG_LOST_AT_LEAST = 1u << 2 /* receiving: `lost` is a lower bound, since the other side of a link restarted */
};

/* A message. Receiving: a borrowed view, valid until the callback returns or the next call on the mailbox.
 * Publishing: set size, topic, data and len; the other fields may be 0. Grows only at its end. */
struct bus_msg {
	size_t      size;
	const char *topic;
	const void *data;
	size_t      len;
	int         type;        /* enum bus_type */
	uint32_t    flags;       /* enum bus_msg_flag */
	uint64_t    lost;        /* messages that this mailbox lost right before this one. Those that a link or a log
	                          * lost may be of any topic */
	int64_t     time_ns;     /* wall clock when a retained or kept message was published, for people; 0: unknown */
	uint32_t    ttl_ms;      /* publishing: not delivered after this time, as a kept value either; 0: no
	                          * limit. Receiving: the remaining time, at least 1 */
	const void *headers;     /* a msgpack map (pack.h), which the bus carries and does not read; NULL: none */
	size_t      headers_len; /* counts into max_payload, together with len */
	uint64_t    reply_to;    /* receiving: not 0 for a request, to pass to bus_reply(). Publishing: ignored */
	uint64_t    position;    /* receiving: its number in a named bus's log, from 1 on; 0: it has none */
};

/* Runs on the mailbox's drainer, one at a time per mailbox. It may publish, subscribe and unsubscribe.
 * It may not bus_flush() or bus_close() (BUS_E_STATE), nor leave by longjmp, throw or thread exit. */
typedef void (*bus_msg_fn)(void *arg, const struct bus_msg *msg);

/* --- the bus ------------------------------------------------------------------------------------ */

struct bus_config {
	size_t   size;
	uint32_t max_topics;  /* 0: 1,000,000; idle topics make room for new ones */
	uint32_t max_payload; /* bytes; 0: 1 MiB; at most 256 MiB */
	/* Of a named bus. The first process to open the name sets the size of its log. */
	const char *dir;       /* directory of the log; NULL: /dev/shm/libbus-UID, for this user alone */
	uint64_t    log_bytes; /* 4 MiB to 16 GiB; 0: 16 MiB, or less where little space is free. A message takes at
	                        * most 1/16 of it */
	const struct bus_msg *will; /* a message that another process of the bus publishes if this one ends without
	                             * bus_close(): killed or crashed; NULL: none. topic, data, len, type, headers and
	                             * BUS_MSG_RETAIN count; copied */
};

/* Opens a bus. name NULL: private to this process. Otherwise 1 to 64 of a-z 0-9 . _ -: every process of
 * this user on this host that opens the name shares the bus, which lasts as long as one of them has it open. Messages
 * lie in one log in shared memory, and every process receives them in that order. There is no server, and a process
 * that dies or stops does not hold up the others.
 * A private bus starts no thread and opens no descriptor; a named one holds one descriptor, and the first
 * bus_mailbox_fd() starts a thread.
 * BUS_E_NOSPACE (also: the log would be larger than RLIMIT_FSIZE allows), BUS_E_LIMIT (1,022 processes), BUS_E_DENIED, BUS_E_VERSION, BUS_E_DAMAGED.
 * Threads: any.  Blocks: never; with a name at most 5 s, while another process joins or leaves.
 * Callbacks: none run inside. */
BUS_API int bus_open(const char *name, const struct bus_config *cfg, struct bus **ret_bus);

/* Returns a random number that identifies this life of a named bus, which ends with the last process on it. Positions are
 * valid within one life. 0 on a private bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API uint64_t bus_epoch(struct bus *bus);

/* Returns the position of the last message in a named bus's log. A mailbox that starts behind it (BUS_FROM_POSITION) receives
 * the messages published after the call. 0 on a private bus, in a forked child, or if the log is damaged.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API uint64_t bus_position(struct bus *bus);

/* Waits until every message accepted before the call has been handled by mailboxes with their own thread and
 * sent by links that are up. BUS_E_TIMEDOUT if that takes longer, BUS_E_STATE in a callback.
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: run on their own threads during the call. */
BUS_API int bus_flush(struct bus *bus, int timeout_ms);

/* Ends a bus: refuses publishes, lets own-thread mailboxes and links drain until the deadline (at most
 * 60 s), then stops them. Returns the number of undelivered messages. bus is freed even if a callback still runs or
 * an earlier publish was stopped. BUS_E_STATE in a callback; bus_close(NULL) returns 0.
 * Threads: any, once.  Blocks: up to timeout_ms, and 0.1 s to stop what does not end.  Callbacks: run on their own threads during the call. */
BUS_API int bus_close(struct bus *bus, int timeout_ms);

/* --- once on a host ------------------------------------------------------------------------------------- */

struct bus_role; /* a task that one process of a named bus has at a time */

/* Takes the role of that name (a topic name). While another bus has the role, in this process or another, the call waits as a
 * standby. bus_role_end(), bus_close() and the death of the process free the role. BUS_E_TIMEDOUT, BUS_E_CLOSED;
 * BUS_E_STATE: the call would wait inside a callback; BUS_E_NOTSUP on a private bus.
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: none run inside. */
BUS_API int bus_role_take(struct bus *bus, const char *name, int timeout_ms, struct bus_role **ret_role);

/* Gives up the role, and frees it; NULL is fine.
 * Threads: any, once.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_role_end(struct bus_role *role);

/* --- publish: never waits, from any thread, also inside callbacks ---------------------------------
 * On a named bus a publish waits for its turn to write: briefly, or for 0.1 s if another process or thread was stopped
 * during its write. BUS_E_TIMEDOUT: three threads of this process were stopped so. BUS_E_FULL: stopped processes
 * hold the whole log; readers never do.
 * BUS_E_LIMIT: no room for another topic, or for another retained value. */

/* Publishes len bytes on topic to every mailbox with a matching subscription; the bytes are copied.
 * 0: accepted, also without any subscriber; BUS_E_FULL: a mailbox that refuses is full, and no mailbox received
 * the message. Other full mailboxes drop by their policy and count it.
 * Threads: any.  Blocks: never.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER, before it returns. */
BUS_API int bus_publish(struct bus *bus, const char *topic, const void *data, size_t len);

/* The same with type, flags, ttl_ms and headers; lost and BUS_MSG_KEPT are ignored. time_ns travels with
 * BUS_MSG_RETAIN only (0: now). It is for people: the last published value wins, whatever its time.
 * Threads: any.  Blocks: never.  Callbacks: as bus_publish(). */
BUS_API int bus_publish_msg(struct bus *bus, const struct bus_msg *msg);

struct bus_pub_config {
	size_t size;
	int    type;    /* enum bus_type of everything sent */
	int    wait_ms; /* how long a send may wait for room in a mailbox that refuses; 0 inside callbacks */
};

/* Resolves a topic once, for many messages. Ends with bus_pub_close().
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_pub_open(struct bus *bus, const char *topic, const struct bus_pub_config *cfg,
    struct bus_pub **ret_pub);

/* Publishes len bytes on the handle's topic, as bus_publish() does.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send(struct bus_pub *pub, const void *data, size_t len);

/* The same with flags, ttl_ms, headers and the message's own type. msg->topic is ignored: the handle has the topic.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_msg(struct bus_pub *pub, const struct bus_msg *msg);

struct bus_slice {
	const void *data;
	size_t      len;
};

/* Publishes count messages on the handle's topic, in order, as count calls of bus_pub_send() would, at less cost: a mailbox
 * receives up to 32 small messages in one step. Returns the number of accepted messages, or the error of the first. The
 * call stops at the first message that is not accepted.
 * Threads: one at a time per pub.  Blocks: up to wait_ms for each.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_many(struct bus_pub *pub, const struct bus_slice *items, size_t count);

/* Publishes one message whose payload is count parts in a row, without a buffer to join them in. Worth it above 4 KiB,
 * for a head and a large body.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_parts(struct bus_pub *pub, const struct bus_slice *parts, size_t count);

/* Lends len bytes of the bus, to fill in place and send without a copy. Worth it above 1 KiB.
 * *ret_data is aligned for any type. The caller owns it until commit, abort or the close of the handle.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_pub_loan(struct bus_pub *pub, size_t len, void **ret_data);

/* Sends the first len bytes of a loan as bus_pub_send() would. 0 ends the loan; on an error the caller still owns
 * it. BUS_E_INVAL: not a loan of this handle, or shorter than len.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_commit(struct bus_pub *pub, void *data, size_t len);

/* Returns a loan unsent; other pointers are ignored.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_pub_abort(struct bus_pub *pub, void *data);

/* Frees the handle; NULL is fine. Loans end with it.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_pub_close(struct bus_pub *pub);

/* --- mailboxes: the drainer, the bound, and the policy when full ----------------------------------- */

enum bus_full {
	BUS_FULL_DROP_OLDEST, /* default */
	BUS_FULL_DROP_NEWEST,
	BUS_FULL_LATEST,      /* one message per topic waits, and a newer one replaces it; a kept value is delivered to
	                       * all subscriptions of the topic. More topics than fit: drops the oldest message */
	BUS_FULL_REFUSE       /* drops nothing: the publisher gets BUS_E_FULL, or waits up to wait_ms */
};

enum bus_drain {
	BUS_DRAIN_CALLER,   /* bus_recv() or bus_dispatch(), with bus_mailbox_fd() if you poll */
	BUS_DRAIN_THREAD,   /* a thread of the mailbox, started with it */
	BUS_DRAIN_PUBLISHER /* the publish that finds the mailbox idle runs the callbacks, also for messages that other
	                     * threads publish during them (messages from links: on the link thread). A publish inside
	                     * such a callback is delivered after the callback. */
};

/* Where a mailbox of a named bus starts to read. All but BUS_FROM_NOW replay earlier messages in order, then continue
 * with new ones; kept values are not delivered in addition. */
enum bus_from {
	BUS_FROM_NOW,      /* kept values, then messages published after the subscription */
	BUS_FROM_OLDEST,   /* the oldest message in the log */
	BUS_FROM_LAST,     /* the last from_value messages that its subscriptions match, at most 10,000 */
	BUS_FROM_POSITION, /* behind the message with that position */
	BUS_FROM_TIME      /* messages published at that time (ns since 1970) or later, within some milliseconds */
};

struct bus_mailbox_config {
	size_t size;
	int    full;  /* enum bus_full */
	int    drain; /* enum bus_drain */
	size_t bytes; /* bound on frames and payloads, rounded up to a power of two, from 4 KiB to 1 GiB;
	               * 0: 256 KiB, or on a named bus twice what all its values take now, if that is more.
	               * An empty mailbox takes one message of any allowed size. */
	const char *group; /* NULL, or a name of 1 to 64 of A-Z a-z 0-9 . _ - */
	int      from;       /* enum bus_from. Reading starts with the first subscription or request; later ones join it there */
	uint64_t from_value; /* the count, position or time (at most 2^63 - 1: BUS_E_INVAL) */
	uint64_t from_epoch; /* with BUS_FROM_POSITION: bus_epoch() of that position; 0: of this life */
};

/* Opens a mailbox. Ends with bus_mailbox_close().
 * On a named bus a mailbox is a place in the log, bounded by the log alone. A mailbox that the writers overtake
 * loses its unread messages (BUS_LOSS_LAPPED). BUS_E_NOTSUP there: BUS_FULL_DROP_NEWEST and
 * BUS_FULL_REFUSE, since no reader may stop a host; BUS_DRAIN_PUBLISHER; a group. BUS_E_RESET: the position
 * is from an earlier life of the bus.
 * With a group, mailboxes of the same name share one queue. Each is a receiver with its own drainer and
 * subscriptions, and each message goes to the receiver that takes it first. Give all the same
 * filters: a message that its receiver does not match is lost as unsubscribed; a receiver without filters takes nothing.
 * Messages start in order and are handled side by side. Kept messages are not redelivered, and a receiver starts no
 * requests. Closing a receiver outside callbacks waits for the message that it handles; the others
 * go on, and the queue ends with the last receiver. The counters are those of the group.
 * BUS_E_INVAL: the group has another full or bytes; BUS_DRAIN_PUBLISHER, which cannot share.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_open(struct bus *bus, const struct bus_mailbox_config *cfg,
    struct bus_mailbox **ret_mbox);

/* Waits for a message. 1: *ret_msg is borrowed until the next call on mbox. 0: none arrived in time, a
 * signal handler ran, or a request's fn was called.
 * Callbacks of its subscriptions do not run: the caller receives the message instead. BUS_E_INVAL on a
 * mailbox with its own thread.
 * Threads: one at a time per mbox.  Blocks: up to timeout_ms.  Callbacks: those of its requests. */
BUS_API int bus_recv(struct bus_mailbox *mbox, int timeout_ms, const struct bus_msg **ret_msg);

/* Waits for messages and runs the callbacks of at most max (0: of all that wait). Returns the number of
 * handled messages; 0: none arrived in time, a signal handler ran, or a request ended. BUS_E_STATE inside one of its
 * callbacks.
 * Threads: one at a time per mbox.  Blocks: up to timeout_ms.  Callbacks: run inside, on this thread. */
BUS_API int bus_dispatch(struct bus_mailbox *mbox, int timeout_ms, unsigned max);

/* Returns a descriptor for poll(): readable while bus_recv() or bus_dispatch() has a message to deliver or a request
 * to end, and after the bus is closed. Created by the first call and owned by the mailbox; only wait on it.
 * Threads: one at a time per mbox.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_fd(struct bus_mailbox *mbox);

/* Ends a mailbox and the subscriptions that were opened without ret_sub; its remaining messages count
 * as lost. Outside callbacks it returns when none of its callbacks runs or will run again. A call that
 * waits in it on another thread returns BUS_E_CLOSED; start no further call on it. NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: done() of its subs. */
BUS_API void bus_mailbox_close(struct bus_mailbox *mbox);

/* --- subscriptions -------------------------------------------------------------------------------- */

/* Binds filter to the bus's default mailbox (drop_oldest, 256 KiB, one thread started on first use).
 * Kept messages of matching topics are delivered first, flagged BUS_MSG_KEPT. With ret_sub NULL
 * the subscription lasts as long as the bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_subscribe(struct bus *bus, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub);

/* The same on a given mailbox; fn NULL: for bus_recv(). With ret_sub NULL the subscription ends with mbox.
 * BUS_E_INVAL: this mailbox cannot have fn NULL, or a filter that begins with $bus/; BUS_E_FULL:
 * the mailbox refuses, and has no room for the kept messages.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_subscribe(struct bus_mailbox *mbox, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub);

/* Ends a subscription and frees sub. Outside callbacks: returns when fn is not running and will not run
 * again. Inside any callback: only stops new calls. done(arg), if given, runs once after the last call
 * of fn: inside this call, or on the drainer after the messages that it has already taken out.
 * NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: done may run inside. */
BUS_API void bus_unsubscribe(struct bus_sub *sub, void (*done)(void *arg));

/* Checks a filter without subscribing to it. 0, BUS_E_TOPIC_EMPTY, BUS_E_TOPIC_LONG, BUS_E_TOPIC_BYTES or BUS_E_FILTER;
 * bus_error_text() names the level that is wrong. BUS_E_INVAL: filter is NULL.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_filter_check(const char *filter);

/* Returns 1 if filter matches every topic that other matches, as "a/#" does for "a/+/b", and 0 if not. For access checks:
 * may a client subscribe to other? Wildcards in the first level match no topic that begins with $, so
 * "#" does not cover "$bus/#". A malformed filter gives the errors of bus_filter_check().
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_filter_covers(const char *filter, const char *other);

/* --- memory ------------------------------------------------------------------------------------------ */

struct bus_keep_config {
	size_t   size;
	uint32_t last;      /* messages of each topic; 0: 1; at most 10,000 */
	uint64_t max_bytes; /* their payloads, of each topic; 0: 1 MiB; at most 1 GiB. The oldest make room;
	                     * the newest stays, whatever its size. */
};

/* Makes every topic that filter matches, now and later, keep its last messages, retained or not. New
 * subscriptions receive them first, in order and flagged BUS_MSG_KEPT, then newer messages, each exactly
 * once. An empty retained message deletes them. If several filters match a topic, the largest last and max_bytes
 * count. It lasts as long as the bus. Peers receive only the messages that were published retained. Publishing on such
 * a topic takes a lock and allocates, with and without subscribers. BUS_E_LIMIT: last or max_bytes is above its bound, or
 * 256 filters keep already. BUS_E_NOMEM: some topics may not keep yet; call again.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_keep(struct bus *bus, const char *filter, const struct bus_keep_config *cfg);

/* Copies a borrowed message: *ret_msg is yours until bus_msg_free(). BUS_E_INVAL: data or
 * headers are NULL and not empty, or longer than a bus carries (256 MiB together); BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_msg_keep(const struct bus_msg *msg, const struct bus_msg **ret_msg);

/* Frees what bus_msg_keep() or bus_request() gave; NULL is fine.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_msg_free(const struct bus_msg *kept);

/* --- request and reply: a request is a message, and only the requester receives its replies --------- */

/* Sends a request on topic and waits for the first reply. *ret_reply is yours until bus_msg_free(), and has
 * the request's topic. The request is not delivered after timeout_ms. BUS_E_NOBODY, at once: no mailbox of this bus or
 * of a linked one subscribes to the topic; BUS_E_TIMEDOUT; BUS_E_CLOSED: the bus closed;
 * BUS_E_STATE in a callback: use bus_request_start() there; and the errors of bus_publish().
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER. */
BUS_API int bus_request(struct bus *bus, const char *topic, const void *data, size_t len, int timeout_ms,
    const struct bus_msg **ret_reply);

/* The same with type, headers and a shorter ttl_ms; no BUS_MSG_RETAIN (BUS_E_INVAL). */
BUS_API int bus_request_msg(struct bus *bus, const struct bus_msg *question, int timeout_ms,
    const struct bus_msg **ret_reply);

/* Sends a request on topic without waiting. Every reply until timeout_ms or bus_request_cancel() calls fn(arg, reply)
 * on mbox's drainer, in mbox's order and bound, inside bus_recv() too. When the request ends for any reason (also
 * because the last responder left), fn(arg, NULL) runs once, on the drainer or inside
 * bus_request_cancel() or bus_mailbox_close(). On an error fn does not run at all:
 * BUS_E_NOBODY as above, BUS_E_INVAL also on a mailbox with BUS_DRAIN_PUBLISHER, which has no waiting drainer.
 * With ret_req not NULL the request is yours until bus_request_cancel(), even after its end.
 * Threads: any.  Blocks: never.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER. */
BUS_API int bus_request_start(struct bus_mailbox *mbox, const char *topic, const void *data, size_t len,
    int timeout_ms, bus_msg_fn fn, void *arg, struct bus_request **ret_req);

/* The same with type, headers and a shorter ttl_ms; no BUS_MSG_RETAIN (BUS_E_INVAL). */
BUS_API int bus_request_start_msg(struct bus_mailbox *mbox, const struct bus_msg *question, int timeout_ms,
    bus_msg_fn fn, void *arg, struct bus_request **ret_req);

/* Ends a request, if it has not ended, and frees req. Outside callbacks: returns when fn is not running
 * and will not be called with a reply again. fn(arg, NULL) has run by then, unless the drainer has taken out messages
 * that it has not handled yet: then it runs behind those. NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: fn(arg, NULL). */
BUS_API void bus_request_cancel(struct bus_request *req);

/* Replies to a request, borrowed or kept, any number of times. 0: on its way to the requester alone, or the request is
 * over, which bus_stats.late_replies counts. BUS_E_INVAL: not a request; BUS_E_FULL: the requester's mailbox refuses
 * and is full.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_reply(struct bus *bus, const struct bus_msg *question, const void *data, size_t len);

/* The same with type, ttl_ms and headers; topic is ignored; no BUS_MSG_RETAIN (BUS_E_INVAL). */
BUS_API int bus_reply_msg(
    struct bus *bus, const struct bus_msg *question, const struct bus_msg *reply);

/* --- what happened ---------------------------------------------------------------------------------- */

enum bus_loss {
	BUS_LOSS_FULL,         /* no room: dropped by the mailbox's policy */
	BUS_LOSS_REPLACED,     /* replaced by a newer message of its topic (BUS_FULL_LATEST) */
	BUS_LOSS_EXPIRED,      /* its ttl_ms had passed when it was taken out */
	BUS_LOSS_UNSUBSCRIBED, /* its subscriptions had ended when it was taken out */
	BUS_LOSS_CLOSED,       /* still inside when the mailbox or the bus ended */
	BUS_LOSS_LAPPED,       /* overwritten in a named bus's log before it was read: messages of any topic */
	BUS_LOSS_LINK,         /* a link was down, or lost them in transit: messages of any topic. In the mailbox of a
	                        * peer: messages that match its filters */
	BUS_LOSS_COUNT
};

enum { BUS_LOSS_ROOM = 16 /* room for kinds of newer versions */ };

struct bus_stats {
	size_t   size;
	uint64_t offered;   /* delivered + lost + refused + pending, exactly */
	uint64_t delivered; /* handed to bus_recv() or to callbacks (a message counts once) */
	uint64_t pending;   /* without unread messages in the log of a named bus */
	uint64_t refused;   /* publishes that got BUS_E_FULL because of this mailbox */
	uint64_t lost[BUS_LOSS_ROOM]; /* by enum bus_loss; add all up, since a newer library may have more kinds */
	uint64_t late_replies; /* of a bus: replies made here or by peers to requests that were over */
	/* Of a mailbox: everything in it now has been taken out once `reached` is at least the `goal` of this call. On a named bus
	 * they are byte positions in its log. */
	uint64_t reached, goal;
};

/* Reads the counters; set ret_stats->size first. The cost grows with the number of waiting messages.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_stats(struct bus_mailbox *mbox, struct bus_stats *ret_stats);

/* Reads `reached` alone, at a constant cost. 1: nothing waits; 0: something does.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_reached(struct bus_mailbox *mbox, uint64_t *ret_reached);

/* Reads the sum over all mailboxes that bus has had, including its default one and those of links.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_stats(struct bus *bus, struct bus_stats *ret_stats);

/* Writes for people which subscribers receive a message on topic, which do not, and why. One fact a line; the wording may
 * change. Lists mailboxes and peers with matching filters (policy, bound, drainer, counters), filters that nearly
 * match, the count of messages without a subscriber, and kept values; topic may begin with $. On a named bus it includes all
 * other processes, stopped ones too, with at most 256 filters of each, and the next step. Returns the length of the whole
 * text without its NUL, as snprintf() does: a result of cap or more means that the text was cut. At most cap bytes are
 * written, including the NUL. cap 0 (ret_text may be NULL) only returns the length.
 * Threads: any.  Blocks: never, but reads every filter under a lock that subscribing takes too, and on a named bus
 * a file of each process.
 * Callbacks: none run inside. */
BUS_API int bus_explain(struct bus *bus, const char *topic, char *ret_text, size_t cap);

/* Writes the connected peers and since when, then the last 32 refusals of peers: the reason, the remedy, the count
 * and the time (UTC). On a named bus it includes the links of all other processes, up to a second old. Returns as bus_explain().
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_explain_peers(struct bus *bus, char *ret_text, size_t cap);

/* Describes a named bus for people; the wording may change. Writes the size and fill of its log, and for each
 * process the number of its filters and the backlog of its slowest mailbox. Returns as bus_explain() and bus_log_stats(). Programs use
 * bus_log_stats() and bus_member().
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_describe(struct bus *bus, char *ret_text, size_t cap);

/* The size and fill of a named bus's log. While other processes publish, join and leave, each number is read at a slightly different
 * time. The bus's own messages ($bus/...) count too. */
struct bus_log_stats {
	size_t   size;
	uint64_t log_bytes;                 /* of its file */
	uint64_t messages;                  /* so far: the position of the last one */
	uint64_t messages_left;             /* of these, still in the log */
	uint64_t oldest;                    /* the position of the oldest in the log; messages + 1: none is */
	uint64_t values_bytes, values_most; /* of retained messages; the bus's own may exceed the most. A process that died
	                                     * during a publish may have counted too many, until space is short */
	uint64_t values_count;              /* their number, without the bus's own; as above */
	uint64_t values_count_most;
	uint32_t segments;                  /* parts of the log; the oldest is reused as a whole */
	uint32_t readers, readers_most;     /* processes with a subscription or a pending request */
	uint32_t processes, processes_most; /* processes that bus_member() finds */
};

/* Reads the size and fill of a named bus's log; set ret_stats->size first. BUS_E_DAMAGED; BUS_E_NOTSUP on a private
 * bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_log_stats(struct bus *bus, struct bus_log_stats *ret_stats);

struct bus_member {
	size_t   size;
	uint32_t pid;      /* as the process reported it; never 0 */
	bool     is_this;  /* it is the caller's process */
	bool     is_alive; /* false: it died, and no other process has detected it yet */
};

/* Finds the process with that number, as in "$bus/members/NUMBER", from 0 to BUS_LIMIT_MEMBERS - 1; set
 * ret_member->size first. 1: *ret_member is filled; 0: no process has the number, and *ret_member is unchanged. BUS_E_INVAL also
 * for a larger number, BUS_E_NOTSUP on a private bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_member(struct bus *bus, uint32_t number, struct bus_member *ret_member);

/* --- the bus's own messages ------------------------------------------------------------------------------
 * Only the bus publishes on these topics, and they never cross to other buses. Type BUS_TYPE_MSGPACK, a map. Filters that
 * begin with $bus/ match them ("$bus/#": all); without such a subscription they are not made.
 * No timer triggers them: calls off the fast path check, at most once a second. These are
 * publishing by name, publishing by handle when a mailbox is full or has no subscriber, a drainer that runs
 * empty, subscribing, and bus_explain(). Not for mailboxes with BUS_DRAIN_PUBLISHER.
 *
 *   $bus/warnings  once for each topic and filter:
 *                  {"warning": "unheard", "topic": name, "publishes": 1000, "text": sentence}
 *                  {"warning": "unmatched", "filter": filter, "seconds": 60, "text": sentence}
 *                  {"warning": "removed", "log": path, "epoch": number, "text": sentence}
 *   $bus/members/N of a named bus, through its log: each process is a retained value
 *                  {"pid": number, "program": name}; an empty payload means that it left or died
 *   $bus/refused   a link refused a peer's request. At most once a second for each peer, and eight times for all. On a named
 *                  bus every process receives it:
 *                  {"refused": "password" …, "address": text, "user": a known user or "", "count": so far,
 *                   "text": sentence}
 *   $bus/peers/N   of a named bus: what bus_explain_peers() writes about the links of process N, a retained text
 *   $bus/drops     a mailbox lost messages, at most once a second for each mailbox:
 *                  {"mailbox": number, "kind": "mailbox" or "peer", "filter": one of its filters,
 *                   "policy": "drop_oldest" …, "full": n, "replaced": n, "expired": n, "unsubscribed": n,
 *                   "closed": n, "lapped": n, "link": n: lost since the last report, "total": lost so far}
 *                  Losses caused by these messages are counted, and cause no further report. */

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif
#endif
