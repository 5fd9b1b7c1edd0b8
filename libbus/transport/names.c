#include "transport/names.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct bus__name *names;

static void
forget(void)
{
	names = NULL;
	bus__names_unlock();
}

/* fork() waits for the lock, so the child finds it free. */
static void
watch_fork(void)
{
	pthread_atfork(bus__names_lock, bus__names_unlock, forget);
}

void
bus__names_lock(void)
{
	pthread_once(&once, watch_fork);
	pthread_mutex_lock(&lock);
}

void
bus__names_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

struct bus__name *
bus__names_find(const char *scheme, const char *text)
{
	struct bus__name *name = names;

	while (name != NULL && (strcmp(name->scheme, scheme) != 0 || strcmp(name->text, text) != 0))
		name = name->next;
	return name;
}

bool
bus__names_add(struct bus__name *name)
{
	if (bus__names_find(name->scheme, name->text) != NULL)
		return false;
	name->next = names;
	names = name;
	return true;
}

void
bus__names_remove(struct bus__name *name)
{
	for (struct bus__name **at = &names; *at != NULL; at = &(*at)->next)
		if (*at == name) {
			*at = name->next;
			return;
		}
}
