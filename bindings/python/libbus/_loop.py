"""Whether the caller runs in an event loop of asyncio, which must not wait."""

from __future__ import annotations

import sys


def in_running_loop() -> bool:
    """Without an import of asyncio, which is half of the time of `import libbus`: a loop that runs has imported it."""
    asyncio = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None
