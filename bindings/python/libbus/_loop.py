"""Calls from asyncio: in a running event loop none may wait, and async functions are not callbacks."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from libbus import _core

if TYPE_CHECKING:
    import asyncio

CO_COROUTINE = (
    0x80 | 0x200
)  # of coroutines and async generators; inspect has them too, but takes long to import

STATE = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_STATE")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Without an import of asyncio, which is half of the time of `import libbus`: a loop that runs has imported it."""
    events: Any = sys.modules.get("asyncio.events")
    loop: asyncio.AbstractEventLoop | None = None if events is None else events._get_running_loop()
    return loop


def refuse_in_loop(call: str, instead: str) -> None:
    """Raises StateError where a call that waits would stop the event loop, and with it all tasks."""
    if running_loop() is not None:
        error = _core.StateError(f"{call} would stop the event loop: use {instead}")
        error.code, error.name = STATE, "BUS_E_STATE"
        error.topic = error.address = None
        raise error


def refuse_coroutine(function: object) -> None:
    """Raises TypeError for an async function, which nothing would await."""
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    code = getattr(target, "__code__", None) or getattr(type(target).__call__, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        raise TypeError(
            f"{function!r} is async, and a callback is called, not awaited: in a task use"
            " `async for msg in bus.subscribe(...)`"
        )
