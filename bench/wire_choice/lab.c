#include "lab.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct lab_page *lab_page;
static char directory[64];
static int addresses;

bool
lab_open(void)
{
	const char *base = getenv("TMPDIR");

	snprintf(directory, sizeof directory, "%.40s/wire-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(directory))
		return false;
	lab_page =
	    mmap(NULL, sizeof *lab_page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return lab_page != MAP_FAILED;
}

void
lab_close(void)
{
	char path[LAB_URL_BYTES];

	for (int i = 1; i <= addresses; i++) {
		snprintf(path, sizeof path, "%s/%d", directory, i);
		unlink(path);
	}
	rmdir(directory);
}

void
lab_begin(const char *transport, char ret_url[LAB_URL_BYTES])
{
	memset(lab_page, 0, sizeof *lab_page);
	if (strcmp(transport, "tcp") == 0)
		snprintf(ret_url, LAB_URL_BYTES, "tcp://127.0.0.1:0");
	else
		snprintf(ret_url, LAB_URL_BYTES, "ipc://%s/%d", directory, ++addresses);
}

pid_t
lab_spawn(void (*fn)(void *arg), void *arg)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(arg);
		_exit(0);
	}
	return child;
}

int
lab_wait(pid_t child, int stall_ms)
{
	unsigned long seen = atomic_load(&lab_page->done);
	int64_t moved = lab_now_us();
	int status;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (atomic_load(&lab_page->done) != seen) {
			seen = atomic_load(&lab_page->done);
			moved = lab_now_us();
		} else if (lab_now_us() - moved > stall_ms * 1000LL) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			return status;
		}
		lab_nap_us(2000);
	}
	return status;
}

void
lab_kill(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

int64_t
lab_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

void
lab_nap_us(long us)
{
	nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

void
lab_add(struct lab_series *series, double value)
{
	int i = series->count++;

	for (; i > 0 && series->at[i - 1] > value; i--)
		series->at[i] = series->at[i - 1];
	series->at[i] = value;
}

double
lab_median(const struct lab_series *series)
{
	int half = series->count / 2;

	if (series->count % 2 == 1)
		return series->at[half];
	return (series->at[half - 1] + series->at[half]) / 2;
}

const char *
lab_text(const struct lab_series *series, int decimals)
{
	static char texts[4][96];
	static int turn;
	char *text = texts[turn++ % 4];

	if (series->count == 0)
		return "no result";
	snprintf(text, sizeof texts[0], "%.*f (%.*f–%.*f)", decimals, lab_median(series), decimals,
	    series->at[0], decimals, series->at[series->count - 1]);
	return text;
}
