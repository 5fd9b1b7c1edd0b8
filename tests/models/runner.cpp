/* runner.cpp: runs every model, then spoils one step of it after the other and sees it fail. */
#include "calls.hpp"

#include <ctime>

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

} // namespace

int
main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0;

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
		++(model_holds(*m, false) ? passed : failed);
		if (m->switches > 0)
			++(model_holds(*m, true) ? passed : failed);
		for (const control *c = m->controls; c->name != NULL; c++)
			++(control_fails(*m, *c) ? passed : failed);
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed > 0 || passed == 0;
}
