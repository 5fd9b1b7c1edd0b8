/* libbus/bus.h: topics, mailboxes, subscriptions.
 *
 * A call answers 0 (or a count), or a negative BUS_E_* (error.h).
 * A struct that begins with `size`: set .size to its sizeof, and fields that you do not use to 0. In a config 0 means the
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
 * BUS_E_LIMIT says also that the system has no more threads or descriptors; BUS_E_LOCKED that, after mlockall(), a log or
 * a thread's stack goes beyond RLIMIT_MEMLOCK.
 * A thread that calls the library needs 32 KiB of stack, and what its callbacks and signal handlers take. (Looking up a
 * name in a tcp:// address may take more: that runs on a thread of its own.)
 * No call is a cancellation point: pthread_cancel() (deferred, as threads begin) takes effect after it. Asynchronous
 * cancellation is not supported. Callbacks run with cancellation off.
 * A signal handler may call bus_strerror(), bus_errname(), bus_version() and, on an open handle of a named bus,
 * bus_pub_send(), which answers BUS_E_STATE if the handler interrupted a publish of its own thread. It may call nothing else of the
 * library: it may have interrupted a call that holds a lock, and would hang. It sets a flag or writes to a pipe, and
 * the program goes on from there. It returns: one that leaves a publish by longjmp() keeps the turn of its process.
 * BUS_E_DAMAGED: another program wrote into the log of a named bus. After the first call that finds the damage, a process's publishing,
 * receiving and waiting calls on this bus answer it at once, and
 * its subscribers to $bus/warnings get a warning. Each other process finds out by calls of its own.
 * No descriptor of the library is 0, 1 or 2. Where one of these is closed when an ipc or tcp link opens, /dev/null is
 * opened there, and stays.
 * After fork() every call on an inherited object answers BUS_E_FORKED; the child opens its own bus. Its
 * ipc and tcp links need that the parent used none before it forked; otherwise they answer the same.
 * Objects outlive their bus: after bus_close() their calls answer BUS_E_CLOSED until their own close;
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

struct bus;         /* topics and whoever listens to them: in this process, or under a name on this host */
struct bus_mailbox; /* bounded queue with one drainer at a time */
struct bus_sub;     /* one filter bound to one mailbox */
struct bus_pub;     /* one topic, resolved; used by one thread at a time */
struct bus_request; /* a question under way */

enum bus_limit {
	BUS_LIMIT_TOPIC_BYTES  = 1024,
	BUS_LIMIT_TOPIC_LEVELS = 32,
	BUS_LIMIT_MEMBERS      = 1022 /* processes on a named bus at a time */
};

/* Content of a payload. An open set from 0 to 255: pass on what you do not know. */
enum bus_type {
	BUS_TYPE_UNTAGGED, /* nobody said; pack.h reads it as JSON, else text, else bytes */
	BUS_TYPE_MSGPACK,
	BUS_TYPE_BYTES,
	BUS_TYPE_JSON,
	BUS_TYPE_TEXT
};

enum bus_msg_flag {
	BUS_MSG_RETAIN = 1u << 0, /* publishing: keep as the topic's last value; empty payload: forget it. On linked
	                           * buses the last change wins; after an outage the side with more changes */
	BUS_MSG_KEPT   = 1u << 1, /* receiving: a kept value, not a new event */
	BUS_MSG_LOST_AT_LEAST = 1u << 2 /* receiving: `lost` is a lower bound, since a link's other side has begun anew */
};

/* A message. Receiving: a borrowed view, valid until the callback returns or the next call on the mailbox.
 * Publishing: set size, topic, data and len; zero is right for the rest. Grows only at its end. */
struct bus_msg {
	size_t      size;
	const char *topic;
	const void *data;
	size_t      len;
	int         type;        /* enum bus_type */
	uint32_t    flags;       /* enum bus_msg_flag */
	uint64_t    lost;        /* messages this mailbox lost right before this one; those that a link or a log
	                          * lost are of any topic */
	int64_t     time_ns;     /* wall clock when a retained or kept message was published, for people; 0: unknown */
	uint32_t    ttl_ms;      /* publishing: nobody gets it later than this, from a kept value either; 0: no
	                          * limit. Receiving: what is left of that, at least 1 */
	const void *headers;     /* a map in msgpack (pack.h), carried and not read by the bus; NULL: none */
	size_t      headers_len; /* counts into max_payload, together with len */
	uint64_t    reply_to;    /* receiving: not 0: a question, for bus_reply(). Publishing: ignored */
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
	/* Of a named bus. Who opens the name first decides how large its log is. */
	const char *dir;       /* where its log lies; NULL: /dev/shm/libbus-UID, for this user alone */
	uint64_t    log_bytes; /* 4 MiB to 16 GiB; 0: 16 MiB, or less where little is free. A message has at
	                        * most 1/16 of it */
	const struct bus_msg *will; /* NULL, or what another process of the bus publishes if this one ends without
	                             * bus_close(): killed, crashed. topic, data, len, type, headers and
	                             * BUS_MSG_RETAIN count; copied */
};

/* Opens a bus. name NULL: private to this process. Otherwise 1 to 64 of a-z 0-9 . _ -: every process of
 * this user on this host that opens the name is on it, for as long as one of them is. What is published
 * lies in one log in shared memory, in the order in which all get it; no server is needed, and no process
 * that dies or stops holds up the others.
 * A private bus starts no thread and opens no descriptor; a named one holds one descriptor, and the first
 * bus_mailbox_fd() starts a thread.
 * BUS_E_NOSPACE (also: the log would be larger than RLIMIT_FSIZE allows), BUS_E_LIMIT (1,022 processes), BUS_E_DENIED, BUS_E_VERSION, BUS_E_DAMAGED.
 * Threads: any.  Blocks: never; with a name at most 5 s, while another process joins or leaves.
 * Callbacks: none run inside. */
BUS_API int bus_open(const char *name, const struct bus_config *cfg, struct bus **ret_bus);

/* What a position belongs to: a random number of this life of a named bus, which ends with the last process
 * on it; 0 on a private bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API uint64_t bus_epoch(struct bus *bus);

/* Returns the position of the last message in a named bus's log. A mailbox that begins behind it (BUS_FROM_POSITION) gets
 * what is published after the call. 0 on a private bus, in a forked child, or if the log is damaged.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API uint64_t bus_position(struct bus *bus);

/* Waits until everything accepted before the call is handled by mailboxes with their own thread and
 * handed to the wire of links that are up. BUS_E_TIMEDOUT when it is not, BUS_E_STATE in a callback.
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: run on their own threads meanwhile. */
BUS_API int bus_flush(struct bus *bus, int timeout_ms);

/* Ends a bus: refuses publishes, lets own-thread mailboxes and links drain until the deadline (at most
 * 60 s), then stops them. Returns how many messages stayed undelivered. bus is gone, even while a
 * callback still runs, or a publish that began before was stopped; BUS_E_STATE in a callback, and bus_close(NULL) is 0.
 * Threads: any, once.  Blocks: up to timeout_ms, and 0.1 s to stop what does not end.  Callbacks: run on their own threads meanwhile. */
BUS_API int bus_close(struct bus *bus, int timeout_ms);

/* --- once on a host ------------------------------------------------------------------------------------- */

struct bus_role; /* what one process of a named bus does at a time */

/* Takes the role of that name (as of a topic), and waits as stand-by while another bus has it, of this process or of another.
 * It is free again with bus_role_end(), bus_close() or the death of its process. BUS_E_TIMEDOUT, BUS_E_CLOSED;
 * BUS_E_STATE: it would wait inside a callback; BUS_E_NOTSUP on a private bus.
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: none run inside. */
BUS_API int bus_role_take(struct bus *bus, const char *name, int timeout_ms, struct bus_role **ret_role);

/* Gives it back, and frees role; NULL is fine.
 * Threads: any, once.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_role_end(struct bus_role *role);

/* --- publish: never waits, from any thread, also inside callbacks ---------------------------------
 * On a named bus it waits for its turn to write: for a moment, or for 0.1 s if another process or thread was stopped
 * in the middle of that. BUS_E_TIMEDOUT: three threads of this process were. BUS_E_FULL there: many processes were,
 * and hold all of the log; readers never do.
 * BUS_E_LIMIT: there is no room for another topic, or (retained) for another value. */

/* Publishes len bytes on topic to every mailbox that wants it; the bytes are copied.
 * 0: accepted, also when nobody listens; BUS_E_FULL: a mailbox that refuses is full, and no mailbox got
 * it. What other full mailboxes drop is counted there.
 * Threads: any.  Blocks: never.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER, before it returns. */
BUS_API int bus_publish(struct bus *bus, const char *topic, const void *data, size_t len);

/* The same with type, flags, ttl_ms and headers; lost and BUS_MSG_KEPT are ignored. time_ns goes along with
 * BUS_MSG_RETAIN only: 0 is now. It decides nothing: what is published last is the value.
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

/* The same with what a message has besides: flags, a life, headers and its own type. Its topic is ignored: the handle's counts.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_msg(struct bus_pub *pub, const struct bus_msg *msg);

struct bus_slice {
	const void *data;
	size_t      len;
};

/* Publishes count messages on the handle's topic, in order, as so many bus_pub_send() would do it and
 * for less: small ones are put into a mailbox up to 32 at a time. Returns how many were accepted, or the
 * error of the first; those behind one that is not accepted are not tried.
 * Threads: one at a time per pub.  Blocks: up to wait_ms for each.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_many(struct bus_pub *pub, const struct bus_slice *items, size_t count);

/* Publishes one message whose payload is count parts in a row, as bus_pub_send() would publish them
 * joined, without a buffer to join them in. Worth it above 4 KiB: a head and a large body, say.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_send_parts(struct bus_pub *pub, const struct bus_slice *parts, size_t count);

/* Lends len bytes of the bus, to be filled in place and sent without a copy. Worth it above 1 KiB.
 * *ret_data is aligned for any type and the caller's until commit, abort or the close of the handle.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_pub_loan(struct bus_pub *pub, size_t len, void **ret_data);

/* Sends the first len bytes of a loan as bus_pub_send() would. On 0 the loan is over; otherwise it is
 * still the caller's. BUS_E_INVAL: not a loan of this handle, or shorter than len.
 * Threads: one at a time per pub.  Blocks: up to wait_ms.  Callbacks: as bus_publish(). */
BUS_API int bus_pub_commit(struct bus_pub *pub, void *data, size_t len);

/* Gives a loan back; anything else is ignored.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_pub_abort(struct bus_pub *pub, void *data);

/* Frees the handle; NULL is fine. Loans end with it.
 * Threads: one at a time per pub.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_pub_close(struct bus_pub *pub);

/* --- mailboxes: who drains, how much fits, what happens when full --------------------------------- */

enum bus_full {
	BUS_FULL_DROP_OLDEST, /* default: fresh news first */
	BUS_FULL_DROP_NEWEST,
	BUS_FULL_LATEST,      /* one message per topic waits, a newer one replaces it; a kept value comes to
	                       * all subscriptions of the topic. More topics than fit: drops the oldest */
	BUS_FULL_REFUSE       /* loses nothing: the publisher gets BUS_E_FULL, or waits wait_ms */
};

enum bus_drain {
	BUS_DRAIN_CALLER,   /* bus_recv() or bus_dispatch(), with bus_mailbox_fd() if you poll */
	BUS_DRAIN_THREAD,   /* a thread of its own, made with the mailbox */
	BUS_DRAIN_PUBLISHER /* inside the publish that finds it idle, on that thread, for what others publish
	                     * meanwhile too (messages from links: on the link's thread). A publish inside
	                     * such a callback is delivered after it. */
};

/* Where a mailbox of a named bus begins to read. All but BUS_FROM_NOW find messages that were published before, in
 * order, and then go on with what comes; what is kept does not come besides. */
enum bus_from {
	BUS_FROM_NOW,      /* kept values, then what is published after the subscription */
	BUS_FROM_OLDEST,   /* all that is still in the log */
	BUS_FROM_LAST,     /* so many that its subscriptions want, at most 10,000 */
	BUS_FROM_POSITION, /* behind the message with that position */
	BUS_FROM_TIME      /* what was published at that time (ns since 1970) or later, within some milliseconds */
};

struct bus_mailbox_config {
	size_t size;
	int    full;  /* enum bus_full */
	int    drain; /* enum bus_drain */
	size_t bytes; /* bound on frames and payloads, rounded up to a power of two, from 4 KiB to 1 GiB;
	               * 0: 256 KiB, or on a named bus twice what all its values take now, if that is more.
	               * An empty mailbox takes one message of any allowed size. */
	const char *group; /* NULL, or a name of 1 to 64 of A-Z a-z 0-9 . _ - */
	int      from;       /* enum bus_from. It begins with its first subscription (or question), for those after it too */
	uint64_t from_value; /* the count, position or time (at most 2^63 - 1: BUS_E_INVAL) */
	uint64_t from_epoch; /* with BUS_FROM_POSITION: bus_epoch() when it was noted; 0: of this life */
};

/* Opens a mailbox. Ends with bus_mailbox_close().
 * On a named bus a mailbox is a place in the log: it has no bound but the log's, and one that is overtaken
 * there loses what it has not read (BUS_LOSS_LAPPED). BUS_E_NOTSUP there: BUS_FULL_DROP_NEWEST and
 * BUS_FULL_REFUSE, since no reader may stop a host; BUS_DRAIN_PUBLISHER; a group. BUS_E_RESET: the position
 * is from an earlier life of the bus.
 * With a group, mailboxes of the same name share one queue: each is a receiver with a drainer and
 * subscriptions of its own, and a message comes to one of them, whichever takes it first. Give all the same
 * filters: what a receiver takes and does not want is lost as unsubscribed; one without any takes nothing.
 * Messages begin in order and are handled side by side. Kept messages are not delivered again, and no
 * question starts here. A receiver that closes outside callbacks ends the message it handles; the others
 * go on, and the queue ends with the last. The counters are those of the group.
 * BUS_E_INVAL: the group has another full or bytes; BUS_DRAIN_PUBLISHER, which cannot share.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_open(struct bus *bus, const struct bus_mailbox_config *cfg,
    struct bus_mailbox **ret_mbox);

/* Waits for a message. 1: *ret_msg is borrowed until the next call on mbox. 0: none came in time, a
 * signal handler ran, or a request's fn was called.
 * Callbacks of its subscriptions do not run: the caller gets the message instead. BUS_E_INVAL on a
 * mailbox with its own thread.
 * Threads: one at a time per mbox.  Blocks: up to timeout_ms.  Callbacks: those of its requests. */
BUS_API int bus_recv(struct bus_mailbox *mbox, int timeout_ms, const struct bus_msg **ret_msg);

/* Waits for messages and runs the callbacks of at most max (0: all that is there). Returns how many
 * messages were handled; 0: none came in time, a signal handler ran, or a request ended. BUS_E_STATE inside one of its
 * callbacks.
 * Threads: one at a time per mbox.  Blocks: up to timeout_ms.  Callbacks: run inside, on this thread. */
BUS_API int bus_dispatch(struct bus_mailbox *mbox, int timeout_ms, unsigned max);

/* Returns a descriptor for poll(): readable while bus_recv() or bus_dispatch() has something to give or
 * to end, and after the bus is closed. Made on the first call, owned by the mailbox; only wait on it.
 * Threads: one at a time per mbox.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_fd(struct bus_mailbox *mbox);

/* Ends a mailbox and the subscriptions that were opened without ret_sub; what it still held is counted
 * as lost. Outside callbacks it returns when none of its callbacks runs or will run again; a call that
 * waits in it on another thread answers BUS_E_CLOSED, and none may begin any more. NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: done() of its subs. */
BUS_API void bus_mailbox_close(struct bus_mailbox *mbox);

/* --- subscriptions -------------------------------------------------------------------------------- */

/* Binds filter to the bus's default mailbox (drop_oldest, 256 KiB, one thread made on first use).
 * Kept messages of a matching topic are delivered first, flagged BUS_MSG_KEPT. ret_sub may be NULL:
 * the subscription then lasts as long as the bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_subscribe(struct bus *bus, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub);

/* The same on a mailbox of your own; fn NULL: for bus_recv(). ret_sub NULL: it ends with mbox.
 * BUS_E_INVAL: fn NULL, or a filter that begins with $bus/, where a mailbox cannot have it; BUS_E_FULL:
 * it refuses, and has no room for what is kept.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_subscribe(struct bus_mailbox *mbox, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub);

/* Ends a subscription and frees sub. Outside callbacks: returns when fn is not running and will not run
 * again. Inside any callback: only stops new calls. done(arg), if given, runs once after the last call
 * of fn: inside this call, or on the drainer when it is through with the messages it has taken out.
 * NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: done may run inside. */
BUS_API void bus_unsubscribe(struct bus_sub *sub, void (*done)(void *arg));

/* Checks a filter without subscribing to it. 0, BUS_E_TOPIC_EMPTY, BUS_E_TOPIC_LONG, BUS_E_TOPIC_BYTES or BUS_E_FILTER;
 * bus_error_text() names the level that is wrong. BUS_E_INVAL: filter is NULL.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_filter_check(const char *filter);

/* Returns 1 if filter matches every topic that other matches, as "a/#" does for "a/+/b", and 0 if not: for programs that
 * decide which filters others may subscribe to. Wildcards in the first level match no topic that begins with $, so
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

/* Lets every topic that filter matches, now and later, keep its last messages, retained or not. New
 * subscriptions get them first, in order and flagged BUS_MSG_KEPT, then what is published after; none
 * comes twice or not at all. An empty retained message deletes them. Of several filters that match a
 * topic the largest last and max_bytes count. It lasts as long as the bus. Peers are sent only those that
 * were published retained. Publishing on such a topic takes a lock and allocates, whether or not anybody
 * listens. BUS_E_LIMIT: last or max_bytes is above its bound, or 256 filters keep already.
 * BUS_E_NOMEM: some topics may not keep yet; call it again.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_keep(struct bus *bus, const char *filter, const struct bus_keep_config *cfg);

/* Makes a message of your own of a borrowed one: *ret_msg stays as it is until bus_msg_free(). BUS_E_INVAL: data or
 * headers are NULL and not empty, or longer than a bus carries (256 MiB together); BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_msg_keep(const struct bus_msg *msg, const struct bus_msg **ret_msg);

/* Frees what bus_msg_keep() or bus_request() gave; NULL is fine.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_msg_free(const struct bus_msg *kept);

/* --- request and reply: a question is a message, and its replies come to the asker alone ------------ */

/* Asks on topic and waits for the first reply; *ret_reply is yours, to end with bus_msg_free(), and has
 * the question's topic. Nobody gets the question after timeout_ms. BUS_E_NOBODY: no mailbox of this bus or
 * of those linked to it wants the topic, said at once; BUS_E_TIMEDOUT; BUS_E_CLOSED: the bus closed;
 * BUS_E_STATE in a callback, which takes bus_request_start(); and what bus_publish() answers.
 * Threads: any.  Blocks: up to timeout_ms.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER. */
BUS_API int bus_request(struct bus *bus, const char *topic, const void *data, size_t len, int timeout_ms,
    const struct bus_msg **ret_reply);

/* The same with type, headers and a shorter ttl_ms; no BUS_MSG_RETAIN (BUS_E_INVAL). */
BUS_API int bus_request_msg(struct bus *bus, const struct bus_msg *question, int timeout_ms,
    const struct bus_msg **ret_reply);

/* Asks on topic without waiting. Every reply until timeout_ms or bus_request_cancel() calls fn(arg, reply)
 * on mbox's drainer, in mbox's order and bound, inside bus_recv() too. At the end, whatever ends it (also
 * that nobody is left who could reply), fn(arg, NULL) runs once, on the drainer or inside
 * bus_request_cancel() or bus_mailbox_close(). Not with an error, when fn does not run at all:
 * BUS_E_NOBODY as above, BUS_E_INVAL also on a mailbox with BUS_DRAIN_PUBLISHER, which nobody wakes.
 * ret_req not NULL: yours until bus_request_cancel(), also beyond its end.
 * Threads: any.  Blocks: never.  Callbacks: of mailboxes with BUS_DRAIN_PUBLISHER. */
BUS_API int bus_request_start(struct bus_mailbox *mbox, const char *topic, const void *data, size_t len,
    int timeout_ms, bus_msg_fn fn, void *arg, struct bus_request **ret_req);

/* The same with type, headers and a shorter ttl_ms; no BUS_MSG_RETAIN (BUS_E_INVAL). */
BUS_API int bus_request_start_msg(struct bus_mailbox *mbox, const struct bus_msg *question, int timeout_ms,
    bus_msg_fn fn, void *arg, struct bus_request **ret_req);

/* Ends a request, if it has not ended, and frees req. Outside callbacks: returns when fn is not running
 * and will not be called with a reply again; fn(arg, NULL) has run then, unless the drainer holds messages
 * that it has taken out: then it runs behind them. NULL is fine.
 * Threads: any, once.  Blocks: until a running callback returns.  Callbacks: fn(arg, NULL). */
BUS_API void bus_request_cancel(struct bus_request *req);

/* Replies to a question, borrowed or kept, as often as you like. 0: on its way to who asked and nobody
 * else, or the question is over, which is counted (bus_stats.late_replies). BUS_E_INVAL: not a question; BUS_E_FULL: the
 * asker's mailbox may not lose and is full.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_reply(struct bus *bus, const struct bus_msg *question, const void *data, size_t len);

/* The same with type, ttl_ms and headers; topic is not looked at, and no BUS_MSG_RETAIN. */
BUS_API int bus_reply_msg(
    struct bus *bus, const struct bus_msg *question, const struct bus_msg *reply);

/* --- what happened ---------------------------------------------------------------------------------- */

enum bus_loss {
	BUS_LOSS_FULL,         /* no room: dropped by the mailbox's policy */
	BUS_LOSS_REPLACED,     /* a newer message of its topic came (BUS_FULL_LATEST) */
	BUS_LOSS_EXPIRED,      /* its ttl_ms had passed when it was taken out */
	BUS_LOSS_UNSUBSCRIBED, /* nobody wanted it any more when it was taken out */
	BUS_LOSS_CLOSED,       /* still inside when the mailbox or the bus ended */
	BUS_LOSS_LAPPED,       /* a named bus's log was used again before it was read: messages of any topic */
	BUS_LOSS_LINK,         /* a link was down, or lost them on the way: messages of any topic. In the mailbox of a
	                        * peer: those that it wanted */
	BUS_LOSS_COUNT
};

enum { BUS_LOSS_ROOM = 16 /* newer versions may have that many kinds */ };

struct bus_stats {
	size_t   size;
	uint64_t offered;   /* delivered + lost + refused + pending, exactly */
	uint64_t delivered; /* handed to bus_recv() or to callbacks (a message counts once) */
	uint64_t pending;   /* without what lies unread in the log of a named bus */
	uint64_t refused;   /* publishes that got BUS_E_FULL because of this mailbox */
	uint64_t lost[BUS_LOSS_ROOM]; /* by enum bus_loss; sum all, since a newer library may know more kinds */
	uint64_t late_replies; /* of a bus: replies given here, or by peers, to questions that were over */
	/* Of a mailbox, for whoever waits until what was put in by now is taken out: until `reached` is what
	 * `goal` was. Of a named bus positions of bytes in its log. */
	uint64_t reached, goal;
};

/* Reads the counters; set ret_stats->size first. It looks at each message that waits.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_stats(struct bus_mailbox *mbox, struct bus_stats *ret_stats);

/* `reached` alone, at a cost that does not grow with what waits. 1: nothing waits; 0: something does.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_mailbox_reached(struct bus_mailbox *mbox, uint64_t *ret_reached);

/* The same summed over all mailboxes that bus has had, its default one and those of links included.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_stats(struct bus *bus, struct bus_stats *ret_stats);

/* Writes who gets a message on topic, who does not and why, for people: one fact a line, in words that may
 * change. Mailboxes and peers with matching filters (policy, bound, drainer, counters), filters that nearly
 * match, how often nobody got it, what is kept; topic may begin with $. On a named bus also all other processes, stopped
 * ones too, with at most 256 filters of each, and what to do next. Returns the length of the whole
 * text without its NUL, like snprintf(): cap or more means that it was cut, and no more than cap bytes are
 * written, the NUL included. cap 0 (ret_text may be NULL) only asks for the length.
 * Threads: any.  Blocks: never, but looks at every filter under a lock that subscribing takes too, and on a named bus reads
 * a file of each process.
 * Callbacks: none run inside. */
BUS_API int bus_explain(struct bus *bus, const char *topic, char *ret_text, size_t cap);

/* Writes the peers that are connected by links, and since when. Then the last 32 peers that were refused something: the reason, what to
 * do, how often and when (UTC). On a named bus it includes the links of all other processes, up to a second old. As bus_explain().
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_explain_peers(struct bus *bus, char *ret_text, size_t cap);

/* Writes what a named bus is, for people, in words that may change: its log, how full that is, and the
 * processes on it, with how many filters each has and how far its slowest mailbox is behind. As bus_explain(), and what bus_log_stats() answers: that and bus_member() are for programs.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_describe(struct bus *bus, char *ret_text, size_t cap);

/* The log of a named bus, and how full it is. While others publish, come and go, each number is of a moment of
 * its own. What the bus says itself ($bus/...) counts too. */
struct bus_log_stats {
	size_t   size;
	uint64_t log_bytes;                 /* of its file */
	uint64_t messages;                  /* so far: the position of the last one */
	uint64_t messages_left;             /* of these are still there */
	uint64_t oldest;                    /* the position of the oldest that is; messages + 1: none is */
	uint64_t values_bytes, values_most; /* of retained messages; the bus's own may go beyond the most. One that died
	                                     * in the middle of a publish may have counted more, until room is short */
	uint64_t values_count;              /* how many, without the bus's own; as above */
	uint64_t values_count_most;
	uint32_t segments;                  /* its parts: the oldest makes room as a whole */
	uint32_t readers, readers_most;     /* processes with a mailbox that has a subscription, or with a question that is
	                                     * waited for */
	uint32_t processes, processes_most; /* those that bus_member() finds */
};

/* Reads what the log of a named bus is, and how full; set ret_stats->size first. It reads as a mailbox does, for a
 * moment: BUS_E_DAMAGED. BUS_E_NOTSUP on a private bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_log_stats(struct bus *bus, struct bus_log_stats *ret_stats);

struct bus_member {
	size_t   size;
	uint32_t pid;      /* as the process said; never 0 */
	bool     is_this;  /* it is the caller's process */
	bool     is_alive; /* false: it died, and no other process has noticed yet */
};

/* Finds the process with that number, the one of "$bus/members/NUMBER", from 0 to BUS_LIMIT_MEMBERS - 1; set
 * ret_member->size first. 1: *ret_member is filled; 0: nobody has the number, and it is as it was. BUS_E_INVAL also
 * beyond the last one, BUS_E_NOTSUP on a private bus.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_member(struct bus *bus, uint32_t number, struct bus_member *ret_member);

/* --- what the bus tells by itself ------------------------------------------------------------------------
 * Messages on topics that only it publishes, and never to other buses; type BUS_TYPE_MSGPACK, a map. They
 * come to filters that begin with $bus/ ("$bus/#": all of them); without such a subscription they do not
 * exist. No timer brings them: a call that takes a slow way looks, at most once a second. Slow ways are
 * publishing by name, publishing by handle when a mailbox has no room or nobody listens, a drainer that
 * has nothing left, subscribing, and bus_explain(). Not for mailboxes with BUS_DRAIN_PUBLISHER.
 *
 *   $bus/warnings  once for each topic and filter:
 *                  {"warning": "unheard", "topic": name, "publishes": 1000, "text": sentence}
 *                  {"warning": "unmatched", "filter": filter, "seconds": 60, "text": sentence}
 *                  {"warning": "removed", "log": path, "epoch": number, "text": sentence}
 *   $bus/members/N of a named bus, and this through its log: each of its processes is a retained value
 *                  {"pid": number, "program": name}; one without payload says that it has left or died
 *   $bus/refused   a link refused something to a peer. At most once a second for each peer, and eight times for all. On a named
 *                  bus every process receives it:
 *                  {"refused": "password" …, "address": text, "user": a known user or "", "count": so far,
 *                   "text": sentence}
 *   $bus/peers/N   of a named bus: what bus_explain_peers() writes about the links of process N, a retained text
 *   $bus/drops     a mailbox whose policy lost something, at most once a second for each:
 *                  {"mailbox": number, "kind": "mailbox" or "peer", "filter": one of its filters,
 *                   "policy": "drop_oldest" …, "full": n, "replaced": n, "expired": n, "unsubscribed": n,
 *                   "closed": n, "lapped": n, "link": n: lost since the last one, "total": lost so far}
 *                  What is lost because of these messages is counted, and does not bring another one. */

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif
#endif
