"""Functions of on() and background(): the app they belong to, and their calls."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libbus

if TYPE_CHECKING:
    from flask import Flask

    from libbus.flask._extension import Bus
    from libbus.flask._state import State

Function = Callable[[libbus.Message], Any]


class Handler:
    """A function of on(). The extension holds those for all apps; an app holds its own."""

    def __init__(self, ext: Bus, asked: str, fn: Function, options: dict[str, Any]) -> None:
        self.ext, self.asked, self.fn, self.options = ext, asked, fn, options


class Background:
    """A function of background(), which one process of the host runs."""

    def __init__(self, ext: Bus, role: str, fn: Callable[[], Any]) -> None:
        self.ext, self.role, self.fn = ext, role, fn


def handlers_of(app: Flask) -> list[Handler]:
    """Holds a handler in the app itself, so that both end together; also before init_app()."""
    own: list[Handler] = app.extensions.setdefault("libbus.handlers", [])
    return own


def app_of(fn: Callable[..., Any], apps: list[Flask]) -> Flask | None:
    """Returns the app that a function's closure refers to, also through functions that it wraps."""
    found: list[Flask] = []
    seen: list[object] = [fn]
    for function in seen:
        for cell in getattr(function, "__closure__", None) or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            if isinstance(inside, types.FunctionType):
                if inside not in seen:
                    seen.append(inside)
            elif any(inside is app for app in apps):
                found.append(inside)
    return found[0] if found and all(app is found[0] for app in found) else None


class Call:
    """Calls a handler of an app while the app exists. A bus with callbacks lives until it is closed, and must not keep alive an
    app that its handlers refer to."""

    def __init__(self, state: State, handler: Handler) -> None:
        self._state, self._handler = weakref.ref(state), weakref.ref(handler)

    def __call__(self, msg: libbus.Message) -> None:
        state, handler = self._state(), self._handler()
        if state is not None and handler is not None:
            handler.fn(msg)

    def __repr__(self) -> str:
        handler = self._handler()
        return "a handler of an app that ended" if handler is None else repr(handler.fn)
