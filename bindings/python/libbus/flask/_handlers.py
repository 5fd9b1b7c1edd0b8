"""Functions of on() and background(): whose they are, and how they are called."""

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
    """A function of on(). The extension has those of all apps, an app has its own."""

    def __init__(self, ext: Bus, asked: str, fn: Function, options: dict[str, Any]) -> None:
        self.ext, self.asked, self.fn, self.options = ext, asked, fn, options


class Background:
    """A function of background(), which one process of the host runs."""

    def __init__(self, ext: Bus, role: str, fn: Callable[[], Any]) -> None:
        self.ext, self.role, self.fn = ext, role, fn


def handlers_of(app: Flask) -> list[Handler]:
    """Kept by the app itself, so that both go together; also before init_app()."""
    own: list[Handler] = app.extensions.setdefault("libbus.handlers", [])
    return own


def app_of(fn: Callable[..., Any], apps: list[Flask]) -> Flask | None:
    """The one of these apps that a function refers to by its closure, also through functions that it wraps."""
    found: list[Flask] = []
    seen: list[object] = [fn]
    for function in seen:
        for cell in getattr(function, "__closure__", None) or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # not yet set
                continue
            if isinstance(inside, types.FunctionType):
                if inside not in seen:
                    seen.append(inside)
            elif any(inside is app for app in apps):
                found.append(inside)
    return found[0] if found and all(app is found[0] for app in found) else None


class Call:
    """Calls a handler of an app while there is the app: a bus with callbacks lives until it is closed, and must not
    keep an app that its handlers refer to."""

    def __init__(self, state: State, handler: Handler) -> None:
        self._state, self._handler = weakref.ref(state), weakref.ref(handler)

    def __call__(self, msg: libbus.Message) -> None:
        state, handler = self._state(), self._handler()
        if state is not None and handler is not None:
            handler.fn(msg)

    def __repr__(self) -> str:
        handler = self._handler()
        return "a handler of an app that ended" if handler is None else repr(handler.fn)
