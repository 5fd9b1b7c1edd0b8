"""Starts handlers and background functions when the process begins to serve, before its first request."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libbus
from libbus import _core
from libbus._ways import way
from libbus.flask._servers import is_ending, serves

if TYPE_CHECKING:
    from libbus._threads import Runner
    from libbus.flask._handlers import Background
    from libbus.flask._state import State

LOOK_S = 0.05
PATIENCE_S = 30.0  # seconds for a running import; after them the first request starts handlers
RETRY_S = 1.0  # after a background function has failed

log = logging.getLogger("libbus.flask")

_lock = threading.Lock()
_waiting: weakref.WeakSet[State] = weakref.WeakSet()
_runner: Runner | None = None
_until = 0.0


def start_when_serving(state: State) -> None:
    """Opens the bus of an app that has handlers as soon as its server takes requests.

    gunicorn and Flask's own server do not call an app before its first request. So a thread checks, for as long as an import
    may take.
    """
    global _runner, _until
    with _lock:
        _waiting.add(state)
        _until = time.monotonic() + PATIENCE_S
        if _runner is None:
            _runner = way().runner(_wait, (), "libbus-start")
            _runner.start()


def wait_no_longer(state: State) -> None:
    with _lock:
        _waiting.discard(state)


def _wait() -> None:
    global _runner
    while True:
        time.sleep(LOOK_S)
        with _lock:
            waiting = [state for state in list(_waiting) if state.idle()]
            serving = any(serves(state.app.debug) for state in waiting)
            if serving or not waiting or time.monotonic() >= _until:
                _waiting.clear()
                _runner = None
                break
        del waiting
    if serving:
        for state in waiting:
            state.start()


def _forked() -> None:
    """Starts the handlers that gunicorn's parent process registered, in a worker of gunicorn --preload."""
    global _lock, _runner
    _lock = threading.Lock()
    _runner = None
    waiting = list(_waiting)
    _waiting.clear()
    if _forked_by_gunicorn():
        for state in waiting:
            start_when_serving(state)


def _forked_by_gunicorn() -> bool:
    """Returns whether gunicorn has just forked this process: the parent's signal handlers are still in place."""
    parent: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not (hasattr(parent, "cfg") and hasattr(parent, "WORKERS")):
        return False
    # gevent patches the worker later: a thread started now would get a separate hub, and callbacks would end with it. In gevent
    # workers the first request starts the handlers.
    return "gevent" not in parent.cfg.worker_class_str


os.register_at_fork(after_in_child=_forked)


# --- background functions -----------------------------------------------------------------------------------


def run_in_background(bus: libbus.Bus, background: Background, context: Callable[[], Any]) -> None:
    """Calls the function in a thread, in one process of the host at a time."""
    arguments = (bus, background.role, background.fn, context)
    way().runner(_run, arguments, f"libbus-{background.role}").start()


def _run(bus: libbus.Bus, role: str, fn: Callable[[], Any], context: Callable[[], Any]) -> None:
    try:
        held = bus.role(role) if bus.name else None
        while not bus.closed and not is_ending():
            here = context()
            if here is None:  # the app has ended
                break
            try:
                with here:
                    fn()
                return  # it is done; the role stays taken, so no other process repeats the work
            except _core.ClosedError:
                if bus.closed:
                    return
                raise
            except Exception:
                log.exception("background function %s failed and is called again", role)
            del here
            time.sleep(RETRY_S)
        if held is not None:
            held.close()
    except _core.ClosedError:
        return
    except Exception:
        log.exception("background function %s ended", role)
