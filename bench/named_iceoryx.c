/* bench/named_iceoryx.c: iceoryx 2 by its C binding; a publisher waits for a receiver whose queue is full. Its daemon,
 * iox-roudi, is started here. */
#include "named.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/wait_set.h>

#define QUEUE    256
#define LOOKS    64 /* in vain, until a receiver gives its CPU away */
#define DAEMON   "iox-roudi"
#define START_US 1500000

static pid_t roudi;

bool
named_iceoryx_start(void)
{
	roudi = fork();
	if (roudi < 0)
		bench_die("fork");
	if (roudi == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (freopen("/dev/null", "w", stdout) == NULL ||
		    freopen("/dev/null", "w", stderr) ==
			NULL) /* it tells of its own end, at length */
			_exit(127);
		execlp(DAEMON, DAEMON, "-l", "off", (char *)NULL);
		_exit(127);
	}
	usleep(START_US);
	return waitpid(roudi, NULL, WNOHANG) == 0;
}

void
named_iceoryx_stop(void)
{
	kill(roudi, SIGTERM);
	waitpid(roudi, NULL, 0);
}

static void
join(const char *role, unsigned number)
{
	char name[64];

	snprintf(name, sizeof name, "bench-%s-%u-%d", role, number, (int)getpid());
	iox_set_loglevel(Iceoryx_LogLevel_Off);
	iox_runtime_init(name);
}

static iox_pub_t
open_publisher(iox_pub_storage_t *storage, const char *event)
{
	iox_pub_options_t options;

	iox_pub_options_init(&options);
	options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	return iox_pub_init(storage, "bench", "named", event, &options);
}

static iox_sub_t
open_subscriber(iox_sub_storage_t *storage, const char *event)
{
	iox_sub_options_t options;

	iox_sub_options_init(&options);
	options.queueCapacity = QUEUE;
	options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	return iox_sub_init(storage, "bench", "named", event, &options);
}

static void
await_connection(iox_sub_t sub)
{
	while (iox_sub_get_subscription_state(sub) != SubscribeState_SUBSCRIBED)
		usleep(1000);
}

static void
send_one(iox_pub_t pub, const void *data, size_t len)
{
	void *chunk;

	while (iox_pub_loan_chunk(pub, &chunk, (uint32_t)len) != AllocationResult_SUCCESS)
		bench_relax(1);
	memcpy(chunk, data, len);
	iox_pub_publish_chunk(pub, chunk);
}

static void
publish(struct named_run *run, unsigned publisher)
{
	iox_pub_storage_t storage;
	char *data = calloc(1, run->payload);
	iox_pub_t pub;

	join("pub", publisher);
	pub = open_publisher(&storage, "stream");
	named_await_go(run);
	for (uint64_t sent = 0; sent < run->count; sent++) {
		named_keep_window(run, sent);
		send_one(pub, data, run->payload);
	}
	named_keep_window(run, UINT64_MAX);
	iox_pub_deinit(pub);
	free(data);
}

static void
receive(struct named_run *run, unsigned receiver)
{
	iox_sub_storage_t storage;
	unsigned looks = 0;
	iox_sub_t sub;
	bool done = false;

	join("sub", receiver);
	sub = open_subscriber(&storage, "stream");
	await_connection(sub);
	named_ready(run, receiver);
	while (!done) {
		const void *chunk;

		if (iox_sub_take_chunk(sub, &chunk) == ChunkReceiveResult_SUCCESS) {
			done = named_came(run, receiver, chunk);
			iox_sub_release_chunk(sub, chunk);
			looks = 0;
		} else if (++looks % LOOKS == 0) {
			sched_yield();
		}
	}
	atomic_store(&run->ends[receiver].ended_ns, bench_now_ns());
	iox_sub_deinit(sub);
}

/* --- there and back ------------------------------------------------------------------------------------------ */

struct pinging {
	iox_pub_storage_t pub_storage;
	iox_sub_storage_t sub_storage;
	iox_ws_storage_t ws_storage;
	iox_pub_t pub;
	iox_sub_t sub;
	iox_ws_t ws; /* NULL: it polls */
};

static void
open_pinging(struct pinging *p, const char *out, const char *in, bool asleep)
{
	join(out, 0);
	p->pub = open_publisher(&p->pub_storage, out);
	p->sub = open_subscriber(&p->sub_storage, in);
	p->ws = NULL;
	if (asleep) {
		p->ws = iox_ws_init(&p->ws_storage);
		iox_ws_attach_subscriber_state(p->ws, p->sub, SubscriberState_HAS_DATA, 1, NULL);
	}
}

static void
await(struct pinging *p)
{
	const void *chunk;

	while (iox_sub_take_chunk(p->sub, &chunk) != ChunkReceiveResult_SUCCESS) {
		iox_notification_info_t info;
		uint64_t missed;

		if (p->ws != NULL)
			iox_ws_wait(p->ws, &info, 1, &missed);
	}
	iox_sub_release_chunk(p->sub, chunk);
}

static void
trip(void *arg)
{
	struct pinging *p = arg;

	send_one(p->pub, "12345678", 8);
	await(p);
}

static void
ping(struct named_run *run, bool asleep)
{
	struct pinging p;

	open_pinging(&p, "ping", "pong", asleep);
	await_connection(p.sub);
	named_await_go(run);
	named_time_trips(run, trip, &p);
}

static void
pong(struct named_run *run, bool asleep)
{
	struct pinging p;

	open_pinging(&p, "pong", "ping", asleep);
	await_connection(p.sub);
	named_ready(run, 0);
	for (;;) { /* until it is killed */
		await(&p);
		send_one(p.pub, "12345678", 8);
	}
}

const struct named_peer named_iceoryx = {
    "iceoryx polling", QUEUE / 2, publish, receive, ping, pong};
