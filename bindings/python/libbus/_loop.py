"""asyncio: no call may wait in a running event loop, and async functions may be callbacks."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from libbus import _core
from libbus._request import Reply, pending
from libbus._threads import Threads

if TYPE_CHECKING:
    import asyncio

    from libbus._bus import Bus
    from libbus._publisher import Sending

# inspect has the same flags, but is slow to import.
CO_COROUTINE = 0x80
CO_ASYNC_GENERATOR = 0x200

STATE = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_STATE")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Does not import asyncio, which would double the time of `import libbus`: a running loop has imported it."""
    events: Any = sys.modules.get("asyncio.events")
    loop: asyncio.AbstractEventLoop | None = None if events is None else events._get_running_loop()
    return loop


class Loop(Threads):
    """No call waits in a running event loop: it would stop all tasks."""

    sends_here = None

    def request(
        self,
        bus: Bus,
        topic: str,
        value: _core.Value,
        timeout: float | None,
        headers: dict[Any, Any] | None,
    ) -> Reply:
        loop = running_loop()
        assert loop is not None
        return pending(topic, bus._ask(topic, value, timeout=timeout, headers=headers), loop)

    def refuse(self, call: str, instead: str) -> None:
        raise state_error(f"{call} would block the event loop: use {instead}")

    def finish(self, sending: Sending) -> Sending:
        return sending  # to be awaited


def is_async(function: object) -> bool:
    """Returns whether it is an async function, which a running loop awaits. TypeError: an async generator, which no loop can."""
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    code = getattr(target, "__code__", None) or getattr(type(target).__call__, "__code__", None)
    flags = 0 if code is None else code.co_flags
    if flags & CO_ASYNC_GENERATOR:
        raise TypeError(
            f"{function!r} is an async generator: a callback must be a function without yield"
        )
    return bool(flags & CO_COROUTINE)


def loop_for(function: object) -> asyncio.AbstractEventLoop:
    """Returns the running loop for an async callback. StateError: no loop runs on this thread."""
    loop = running_loop()
    if loop is None:
        raise state_error(
            f"{function!r} is async, and no event loop runs on this thread: register it in a coroutine"
        )
    return loop


def state_error(text: str) -> _core.StateError:
    error = _core.StateError(text)
    error.code, error.name = STATE, "BUS_E_STATE"
    error.topic = error.address = None
    return error
