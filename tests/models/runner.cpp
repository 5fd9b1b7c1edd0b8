/* runner.cpp: runs every model, then spoils one step of it after the other and sees it fail. Each run is a process of its own,
 * as many at once as there are CPUs; what they print is printed in their order. */
#include "calls.hpp"

#include <ctime>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#define MODELS(X)                                                                                  \
	X(sleep_bit)                                                                               \
	X(laps)                                                                                    \
	X(batch)                                                                                   \
	X(eviction)                                                                                \
	X(close_bit)                                                                               \
	X(parked)                                                                                  \
	X(hand_over)                                                                               \
	X(block_refs)                                                                              \
	X(pool)                                                                                    \
	X(link_run)                                                                                \
	X(receive)                                                                                 \
	X(room)                                                                                    \
	X(shared)                                                                                  \
	X(latest)                                                                                  \
	X(publisher)                                                                               \
	X(unsubscribe)                                                                             \
	X(log_stopped)                                                                             \
	X(log_turn)                                                                                \
	X(log_leaves)                                                                              \
	X(log_dead)                                                                                \
	X(log_lapped)                                                                              \
	X(log_joins)                                                                               \
	X(log_held)                                                                                \
	X(log_copied)                                                                              \
	X(log_kept)                                                                                \
	X(log_reused)                                                                              \
	X(log_named)                                                                               \
	X(log_values)                                                                              \
	X(watch)                                                                                   \
	X(watch_lapped)                                                                            \
	X(watch_begins)

extern "C" {
#define DECLARE(name) extern const struct model model_##name;
MODELS(DECLARE)
}

bool model_tries_all;

namespace
{

#define ENTER(name) &model_##name,
const struct model *const models[] = {MODELS(ENTER)};

const struct model *running;

template <int N> struct suite : rl::test_suite<suite<N>, N> {
	void
	before()
	{
		memory::begin_history = memory::begin_history_of<N>;
		memory::begin_schedule();
		clock_ns = 0;
		running->before();
		memory::checking = true;
	}

	void
	thread(unsigned index)
	{
		running->thread((int)index);
	}

	void
	after()
	{
		memory::checking = false;
		running->after();
		memory::end_schedule();
	}
};

struct outcome {
	rl::test_result_e result;
	unsigned long schedules;
};

/* Where relacy writes. No strings: its operator new counts what is allocated while a model runs. */
struct page : std::streambuf {
	char text[4 << 20];

	void
	clear()
	{
		setp(text, text + sizeof text - 1);
	}

	/* The end of the history, without relacy's second copy of it by threads. */
	void
	print()
	{
		char *end = pptr(), *begin, *copy;

		*end = 0;
		copy = strstr(text, "\nthread 0:");
		if (copy != NULL)
			end = copy;
		begin = end;
		for (int lines = 0; begin > text && lines < 200; lines += *begin == '\n')
			begin--;
		fwrite(begin, 1, (size_t)(end - begin), stdout);
	}
} history, progress;

outcome
simulate(const struct model &m, const control *c, bool all)
{
	const char *times = getenv("MODELS_TIMES");
	static std::ostream history_out(&history), progress_out(&progress);
	rl::test_params params;

	history.clear();
	progress.clear();
	history_out.clear();
	progress_out.clear();
	running = &m;
	model_tries_all = all;
	memory::spoiled = c;
	memory::times_spoiled = 0;
	memory::print_lines = c == NULL;
	params.output_stream = &history_out;
	params.progress_stream = &progress_out;
	/* A control may need more of them than there are for what holds. */
	params.iteration_count = c != NULL       ? 10 * m.schedules
				 : times != NULL ? strtoul(times, NULL, 10) * m.schedules
						 : m.schedules;
	params.execution_depth_limit = 10000;
	params.search_type = all ? rl::sched_bound : rl::sched_random;
	params.context_bound = m.switches;
	switch (m.threads) {
	case 2:
		rl::simulate<suite<2>>(params);
		break;
	case 3:
		rl::simulate<suite<3>>(params);
		break;
	default:
		rl::simulate<suite<4>>(params);
		break;
	}
	return {params.test_result, (unsigned long)params.stop_iteration};
}

/* One line, and whether the outcome is as it must be. */
bool
model_holds(const struct model &m, bool all)
{
	clock_t begun = clock();
	outcome o = simulate(m, NULL, all);
	bool holds = o.result == rl::test_result_success;

	if (!holds)
		history.print();
	printf("%-12s %8lu schedules, %-22s %s (%.1f s): %s\n", m.name, o.schedules,
	    all ? "every one within bound" : "random", holds ? "holds" : "FAILS",
	    (double)(clock() - begun) / CLOCKS_PER_SEC, m.shows);
	fflush(stdout);
	return holds;
}

bool
control_fails(const struct model &m, const control &c)
{
	outcome o = simulate(m, &c, false);
	const char *word = o.result == rl::test_result_success ? "" : rl::test_result_str(o.result);
	const char *verdict = "fails as it must";

	if (memory::times_spoiled == 0)
		verdict = "IS OUT OF DATE, no such step";
	else if (o.result == rl::test_result_success)
		verdict = "HOLDS, which proves the model blind";
	else if (c.fails_as[0] != 0 && strstr(c.fails_as, word) == NULL)
		verdict = "FAILS IN ANOTHER WAY";
	if (getenv("MODELS_HISTORY") != NULL)
		history.print();
	printf("%-12s %8lu schedules, control: %s: %s (%s)\n", m.name, o.schedules, c.name, verdict,
	    word);
	fflush(stdout);
	return strcmp(verdict, "fails as it must") == 0;
}

/* A model, with all schedules within its bound or random ones; or a control of it. */
struct job {
	const struct model *model;
	const control *spoils;
	bool all;
	pid_t pid;
	FILE *out; /* what it printed, for when those before it have ended */
	int status;
};

int
run(const struct job &j)
{
	bool good =
	    j.spoils != NULL ? control_fails(*j.model, *j.spoils) : model_holds(*j.model, j.all);

	return good ? 0 : 1;
}

void
begin(struct job *j)
{
	j->out = tmpfile();
	j->pid = j->out != NULL ? fork() : -1;
	if (j->pid < 0) {
		perror("models");
		exit(2);
	}
	if (j->pid == 0) {
		dup2(fileno(j->out), STDOUT_FILENO);
		_exit(run(*j));
	}
}

/* Waits for one that runs. */
void
end_one(std::vector<struct job> *jobs)
{
	int status;
	pid_t pid = wait(&status);

	for (struct job &j : *jobs)
		if (j.pid == pid) {
			j.pid = 0;
			j.status = status;
		}
}

void
print(const struct job &j)
{
	char text[4096];
	size_t len;

	rewind(j.out);
	while ((len = fread(text, 1, sizeof text, j.out)) > 0)
		fwrite(text, 1, len, stdout);
	fclose(j.out);
	if (!WIFEXITED(j.status) || WEXITSTATUS(j.status) > 1)
		printf("%-12s %s: ENDED with status %#x\n", j.model->name,
		    j.spoils != NULL ? j.spoils->name : "the model", (unsigned)j.status);
	fflush(stdout);
}

} // namespace

int
main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN), running_now = 0;
	std::vector<struct job> jobs;
	size_t begun = 0;

	if (!memory::read_symbols()) {
		fprintf(stderr, "models: nm cannot read this program\n");
		return 2;
	}
	for (const struct model *m : models) {
		bool wanted = argc < 2;

		for (int i = 1; i < argc; i++)
			wanted |= strcmp(argv[i], m->name) == 0;
		if (!wanted)
			continue;
		jobs.push_back({m, NULL, false});
		if (m->switches > 0)
			jobs.push_back({m, NULL, true});
		for (const control *c = m->controls; c->name != NULL; c++)
			jobs.push_back({m, c, false});
	}
	for (size_t printed = 0; printed < jobs.size();) {
		if (begun < jobs.size() && running_now < cpus) {
			begin(&jobs[begun++]);
			running_now++;
		} else if (printed < begun && jobs[printed].pid == 0) {
			print(jobs[printed]);
			++(jobs[printed++].status == 0 ? passed : failed);
		} else {
			end_one(&jobs);
			running_now--;
		}
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed > 0 || passed == 0;
}
