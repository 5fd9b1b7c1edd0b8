#define _GNU_SOURCE
#include "transport/hosts.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <libbus/error.h>

#include "base/fork.h"
#include "base/mem.h"
#include "base/thread.h"

enum { LOOKUPS_MOST = 64 };

static int
translate(int gai)
{
	switch (gai) {
	case 0:
		return 0;
	case EAI_MEMORY:
		return BUS_E_NOMEM;
	case EAI_SYSTEM:
		return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
	default: /* no such host, or no memory to look it up */
		return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_ADDRESS;
	}
}

int
bus__hosts_find(const char *name, bool numeric, struct bus__hosts *ret_hosts)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
			    .ai_flags = numeric ? AI_NUMERICHOST : 0},
			*list;
	int err;

	errno = 0;
	err = translate(getaddrinfo(name, NULL, &hints, &list));
	if (err < 0)
		return err;
	ret_hosts->count = 0;
	for (struct addrinfo *at = list; at != NULL; at = at->ai_next)
		if (ret_hosts->count < BUS__HOSTS_MOST &&
		    at->ai_addrlen <= sizeof(union bus__host)) {
			union bus__host *host = &ret_hosts->at[ret_hosts->count++];

			*host = (union bus__host){.any.sa_family = AF_UNSPEC};
			memcpy(host, at->ai_addr, at->ai_addrlen);
		}
	freeaddrinfo(list);
	return ret_hosts->count > 0 ? 0 : BUS_E_ADDRESS;
}

int
bus__host_write(const union bus__host *host, char *ret_text)
{
	socklen_t len = host->any.sa_family == AF_INET ? sizeof host->in : sizeof host->in6;

	errno = 0;
	return translate(
	    getnameinfo(&host->any, len, ret_text, BUS__URL_NAME, NULL, 0, NI_NUMERICHOST));
}

/* --- on a separate thread ---------------------------------------------------------------------------------------------- */

/* Shared by its asker and its thread; the second of them frees it. Not malloc's memory, since it may outlive all
 * buses. */
struct bus__lookup {
	pthread_mutex_t lock;
	struct bus__loop *loop; /* of the asker; both NULL: it is gone */
	struct bus__task *task;
	bool ended;
	int err, sys;
	struct bus__hosts hosts;
	uint32_t generation; /* of forks */
	char name[BUS__URL_NAME];
};

/* Look-ups under way, with their fork generation above: a child has none of its parent's. Relaxed: it only counts. */
static _Atomic uint64_t under_way;

static bool
take_place(uint32_t generation)
{
	uint64_t seen = atomic_load_explicit(&under_way, memory_order_relaxed), wanted;

	do {
		wanted = seen >> 32 == generation ? seen : (uint64_t)generation << 32;
		if ((uint32_t)wanted >= LOOKUPS_MOST)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &under_way, &seen, wanted + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

static void
give_place(void)
{
	atomic_fetch_sub_explicit(&under_way, 1, memory_order_relaxed);
}

static void
end(struct bus__lookup *lookup)
{
	pthread_mutex_destroy(&lookup->lock);
	bus__pages_free(lookup, sizeof *lookup);
}

static void *
run(void *arg)
{
	struct bus__lookup *lookup = arg;
	bool alone;

	bus__thread_name("bus-lookup");
	lookup->err = bus__hosts_find(lookup->name, false, &lookup->hosts);
	lookup->sys = errno;
	give_place();
	pthread_mutex_lock(&lookup->lock);
	lookup->ended = true;
	alone = lookup->task == NULL;
	if (!alone)
		bus__loop_post(lookup->loop, lookup->task);
	pthread_mutex_unlock(&lookup->lock);
	if (alone)
		end(lookup);
	return NULL;
}

int
bus__lookup_start(const char *name, struct bus__loop *loop, struct bus__task *task,
    struct bus__lookup **ret_lookup)
{
	struct bus__lookup *lookup;
	pthread_t thread;
	int err = BUS_E_NOMEM;

	if (!take_place(bus__fork_generation()))
		return BUS_E_LIMIT;
	lookup = bus__pages(sizeof *lookup);
	if (lookup == NULL)
		goto give_place;
	pthread_mutex_init(&lookup->lock, NULL);
	lookup->loop = loop;
	lookup->task = task;
	memcpy(lookup->name, name, strlen(name) + 1);
	err = bus__thread_start(&thread, run, lookup);
	if (err < 0)
		goto end;
	pthread_detach(thread);
	*ret_lookup = lookup;
	return 0;

end:
	end(lookup);
give_place:
	give_place();
	return err;
}

int
bus__lookup_read(const struct bus__lookup *lookup, struct bus__hosts *ret_hosts)
{
	*ret_hosts = lookup->hosts;
	errno = lookup->sys;
	return lookup->err;
}

void
bus__lookup_free(struct bus__loop *loop, struct bus__lookup *lookup)
{
	struct bus__task *task;
	bool ended;

	pthread_mutex_lock(&lookup->lock);
	task = lookup->task;
	lookup->task = NULL;
	ended = lookup->ended;
	pthread_mutex_unlock(&lookup->lock);
	bus__loop_cancel(loop, task);
	if (ended)
		end(lookup);
}
