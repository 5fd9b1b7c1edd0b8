/* support/fake_clock.h: a clock that a test moves on, so that no test waits for a time to pass.
 *
 * A program that compiles fake_clock.c in has it in place of libbus/base/clock.c. Deadlines, lives of messages and times of
 * records follow it. The kernel does not: a thread that sleeps does not wake, and one that goes to sleep then sleeps that much longer. So
 * a test that moves it far sets it back at its end, for those behind it in the same process (CK_FORK=no). */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include <stdint.h>

/* All clocks of the library move on by this, or back. */
void clock_pass_ms(int64_t ms);

#endif
