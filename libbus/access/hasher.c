#define _POSIX_C_SOURCE 200809L
#include "access/hasher.h"

#include <pthread.h>
#include <string.h>

#include <libbus/error.h>

#include "base/fork.h"
#include "base/random.h"
#include "base/secret.h"
#include "base/thread.h"

enum { KNOWN_MOST = 64 /* remembered keys; the oldest is replaced */ };

/* Identifies remembered keys. Reveals neither the password nor a faster way to guess it than the keys do. */
struct known {
	uint8_t digest[BUS__SHA512]; /* of password and salting, keyed by the secret below */
	struct bus__scram_keys keys;
};

/* All under `lock`, which a fork waits for, so that the child finds it free. done() is called under it: so none is called
 * after a cancel. */
static struct {
	pthread_mutex_t lock;
	pthread_once_t once;
	int once_error;
	uint8_t secret[BUS__SHA512];
	uint32_t fork_generation;
	bool runs;
	size_t waiting;
	struct bus__hash_job *first, *current; /* its input is copied, and it is in no list */
	struct known known[KNOWN_MOST];
	uint32_t known_next;
} hasher = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

static void
before_fork(void)
{
	pthread_mutex_lock(&hasher.lock);
}

static void
after_fork(void)
{
	pthread_mutex_unlock(&hasher.lock);
}

static void
begin_once(void)
{
	hasher.once_error = bus__random(hasher.secret, sizeof hasher.secret);
	if (hasher.once_error == 0)
		hasher.once_error = bus__fork_watch();
	if (hasher.once_error == 0 && pthread_atfork(before_fork, after_fork, after_fork) != 0)
		hasher.once_error = BUS_E_NOMEM;
	hasher.fork_generation = bus__fork_generation();
}

/* A child has neither the thread nor its parent's jobs. It keeps the remembered keys. */
static void
lock(void)
{
	pthread_mutex_lock(&hasher.lock);
	if (hasher.fork_generation == bus__fork_generation())
		return;
	hasher.fork_generation = bus__fork_generation();
	hasher.runs = false;
	hasher.waiting = 0;
	hasher.first = hasher.current = NULL;
}

static void
unlock(void)
{
	pthread_mutex_unlock(&hasher.lock);
}

/* --- remembered keys ----------------------------------------------------------------------------------------------------- */

static int
digest_of(const struct bus__hash_job *job, uint8_t ret_digest[BUS__SHA512])
{
	struct {
		uint8_t password[BUS__SHA512];
		struct bus__salting salting;
	} both;
	int err;

	memset(&both, 0, sizeof both);
	both.salting.iterations = job->salting.iterations;
	both.salting.salt_len = job->salting.salt_len;
	memcpy(both.salting.salt, job->salting.salt, job->salting.salt_len);
	err = bus__hmac_sha512(hasher.secret, sizeof hasher.secret, job->password,
	    strlen(job->password), both.password);
	if (err == 0)
		err = bus__hmac_sha512(
		    hasher.secret, sizeof hasher.secret, &both, sizeof both, ret_digest);
	bus__wipe(&both, sizeof both);
	return err;
}

static struct known *
find(const uint8_t digest[BUS__SHA512])
{
	for (size_t i = 0; i < KNOWN_MOST; i++)
		if (bus__same_secret(hasher.known[i].digest, digest, BUS__SHA512))
			return &hasher.known[i];
	return NULL;
}

void
bus__hasher_remember(const struct bus__hash_job *job)
{
	uint8_t digest[BUS__SHA512];

	if (digest_of(job, digest) < 0)
		return;
	lock();
	if (find(digest) == NULL) {
		struct known *known = &hasher.known[hasher.known_next++ % KNOWN_MOST];

		memcpy(known->digest, digest, sizeof digest);
		known->keys = job->keys;
	}
	unlock();
}

/* --- the thread --------------------------------------------------------------------------------------------------------- */

struct input {
	char password[BUS__PASSWORD];
	size_t password_len;
	struct bus__salting salting;
};

/* Takes the next job and copies its input, so that the job may be freed while it is computed. false: there is none, and the
 * thread ends. */
static bool
begin(struct input *ret_input)
{
	struct bus__hash_job *job;

	lock();
	job = hasher.first;
	hasher.current = job;
	hasher.runs = job != NULL;
	if (job != NULL) {
		hasher.first = job->next;
		hasher.waiting--;
		ret_input->password_len = strlen(job->password);
		memcpy(ret_input->password, job->password, ret_input->password_len);
		ret_input->salting = job->salting;
	}
	unlock();
	return job != NULL;
}

static bool
is_wanted(void *arg)
{
	bool wanted;

	(void)arg;
	lock();
	wanted = hasher.current != NULL;
	unlock();
	return wanted;
}

static int
compute(const struct input *input, struct bus__scram_keys *ret_keys)
{
	uint8_t salted[BUS__SHA512];
	int err = bus__pbkdf2_sha512(input->password, input->password_len, input->salting.salt,
	    input->salting.salt_len, input->salting.iterations, is_wanted, NULL, salted);

	if (err == 0)
		err = bus__scram_keys(salted, ret_keys);
	bus__wipe(salted, sizeof salted);
	return err;
}

static void
end(int err, const struct bus__scram_keys *keys)
{
	struct bus__hash_job *job;

	lock();
	job = hasher.current;
	hasher.current = NULL;
	if (job != NULL) {
		job->err = err;
		job->keys = *keys;
		job->done(job->arg);
	}
	unlock();
}

static void *
run(void *arg)
{
	struct input input;
	struct bus__scram_keys keys = {0};

	(void)arg;
	pthread_detach(pthread_self());
	bus__thread_name("bus-hash");
	while (begin(&input)) {
		int err = compute(&input, &keys);

		bus__wipe(&input, sizeof input);
		end(err, &keys);
		bus__wipe(&keys, sizeof keys);
	}
	return NULL;
}

/* --- jobs --------------------------------------------------------------------------------------------------------------- */

static bool
is_right(const struct bus__hash_job *job)
{
	size_t len = strnlen(job->password, BUS__PASSWORD + 1);

	return len > 0 && len <= BUS__PASSWORD && job->salting.salt_len > 0 &&
	       job->salting.salt_len <= BUS__SALT && job->salting.iterations > 0 &&
	       job->salting.iterations <= BUS__ITERATIONS_MOST;
}

static int
queue(struct bus__hash_job *job)
{
	struct bus__hash_job **last = &hasher.first;
	pthread_t thread;
	int err;

	if (hasher.waiting == BUS__HASHES_MOST)
		return BUS_E_LIMIT;
	/* The thread waits for our lock before it looks for a job. */
	err = hasher.runs ? 0 : bus__thread_start(&thread, run, NULL);
	if (err < 0)
		return err;
	hasher.runs = true;
	while (*last != NULL)
		last = &(*last)->next;
	*last = job;
	job->next = NULL;
	hasher.waiting++;
	return 0;
}

int
bus__hasher_ask(struct bus__hash_job *job)
{
	uint8_t digest[BUS__SHA512];
	const struct known *known;
	int err;

	if (bus__digest_missing != NULL)
		return BUS_E_NOTSUP;
	if (!is_right(job))
		return BUS_E_INVAL;
	pthread_once(&hasher.once, begin_once);
	err = hasher.once_error < 0 ? hasher.once_error : digest_of(job, digest);
	if (err < 0)
		return err;
	lock();
	known = find(digest);
	if (known != NULL) {
		job->keys = known->keys;
		job->err = 0;
		err = 1;
	} else {
		err = queue(job);
	}
	unlock();
	return err;
}

void
bus__hasher_cancel(struct bus__hash_job *job)
{
	lock();
	if (hasher.current == job)
		hasher.current = NULL;
	for (struct bus__hash_job **at = &hasher.first; *at != NULL; at = &(*at)->next)
		if (*at == job) {
			*at = job->next;
			hasher.waiting--;
			break;
		}
	unlock();
}
