"""Asks an app's function which topics a page may get.

The library asks about each topic that is new to a page, and holds the page's events back until the answer. The answer stays
with the page. One thread of the process calls the functions of all apps.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libbus
from libbus import _core
from libbus._ways import way

if TYPE_CHECKING:
    from libbus._threads import Runner

Authorizer = Callable[[str, str], Any]
"""may(action, what): action is "subscribe" with a filter, "receive" or "publish" with a topic."""

RETRY_S = 0.1  # without memory

log = logging.getLogger("libbus.pages")


def granted(answer: Any) -> bool:
    """Raises TypeError for an awaitable: unawaited, it would count as True."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError("authorize: the function returned an awaitable: make it an async function")
    return bool(answer)


class Answers:
    """Answers for the pages of one Push."""

    def __init__(self, push: _core.Push) -> None:
        self._push = push
        self._lock = (
            threading.Lock()
        )  # guards the fields below: a question may arrive before its page has a number
        self._pages: dict[int, Authorizer] = {}
        self._runner: Runner | None = None

    def add(self, may: Authorizer, add: Callable[[], int]) -> int:
        """Adds a page with add(). From then on another thread answers its questions with may()."""
        with self._lock:
            page = add()
            self._pages[page] = may
            if self._runner is None:
                arguments = (self._push, weakref.ref(self))
                self._runner = way().runner(_answer, arguments, "libbus-authorize")
                self._runner.start()
        return page

    def _of(self, page: int) -> Authorizer | None:
        with self._lock:
            return self._pages.get(page)

    def _forget(self, page: int) -> None:
        with self._lock:
            self._pages.pop(page, None)


def _answer(push: _core.Push, find: weakref.ref[Answers]) -> None:
    """Holds no reference to an app between questions: it would keep the app alive."""
    while True:
        try:
            questions = push.questions(None)
            for page, topic in questions:
                _settle(push, find(), page, topic)
        except libbus.BusError:  # closed, or forked
            return
        except MemoryError:  # the next call gets the questions
            time.sleep(RETRY_S)


def _settle(push: _core.Push, answers: Answers | None, page: int, topic: str | None) -> None:
    if topic is None:
        if answers is not None:
            answers._forget(page)
        return
    fn = answers._of(page) if answers is not None else None
    may, message = (False, "the page has left") if fn is None else _ask(fn, topic)
    while True:
        try:
            push.answer(page, topic, may, message)
            return
        except MemoryError:
            time.sleep(RETRY_S)


def _ask(fn: Authorizer, topic: str) -> tuple[bool, str | None]:
    try:
        may = granted(fn("receive", topic))
    except BaseException:  # SystemExit and gevent.Timeout too: other pages wait for this thread
        log.exception("authorize failed for topic %r, so the page does not receive it", topic)
        return (
            False,
            "the server failed to check whether this page may receive the topic; see its log",
        )
    return may, None if may else f"this page may not receive {topic}"
