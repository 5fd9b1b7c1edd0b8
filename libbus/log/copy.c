/* log/copy.c: copying what others may be writing.
 *
 * A reader without a pin copies records, and finds out afterwards (bus__log_was_there()) whether they were there all the time.
 * If not, it has read while a writer wrote, and throws that away. So each word is read once, by an atomic load, as a writer's
 * plain stores allow; ThreadSanitizer, which cannot know that such a copy is discarded, does not check this file. In a file of its
 * own, since models bring their own, which tells them which copies are believed. */
#include "log/log.h"

__attribute__((no_sanitize_thread)) void
bus__log_copy(void *to, const void *from, uint64_t bytes)
{
	const _Atomic uintptr_t *word = from;
	uintptr_t *out = to;

	for (uint64_t i = 0; i < bytes / sizeof *out; i++)
		out[i] = atomic_load_explicit(&word[i], memory_order_relaxed);
}
