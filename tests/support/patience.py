"""How long a test waits for what must happen, before it calls that a hang: the same as in patience.h."""

import os

# Seconds. Far beyond what a machine under load takes; a test that passes waits for none of it.
WATCHDOG = 120 * int(os.environ.get("BUS_TEST_PATIENCE", "1"))
