#include "base/fork.h"

#include <pthread.h>

#include <libbus/error.h>

#include "base/hold.h"

_Atomic uint32_t bus__forks;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int watch_error;

static void
count_child(void)
{
	atomic_fetch_add_explicit(&bus__forks, 1, memory_order_relaxed);
	bus__holds_forget();
}

static void
watch(void)
{
	if (pthread_atfork(NULL, NULL, count_child) != 0)
		watch_error = BUS_E_NOMEM;
}

int
bus__fork_watch(void)
{
	pthread_once(&once, watch);
	return watch_error;
}
