"""How long a test waits before it reports a hang: the same limit as in patience.h."""

import os

# Seconds. A passing test never waits for it, so it lies far beyond what load adds.
WATCHDOG = 120 * int(os.environ.get("BUS_TEST_PATIENCE", "1"))
