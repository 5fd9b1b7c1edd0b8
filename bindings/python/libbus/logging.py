"""A handler of the logging module: records as messages.

import logging
import libbus, libbus.logging

bus = libbus.Bus("home")
logging.getLogger().addHandler(libbus.logging.Handler(bus))
logging.getLogger("app.db").error("no answer from %s", "db1")     # a message on log/app/db

$ libbus sub home 'log/#'
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import traceback
from datetime import datetime, timezone
from types import CodeType
from typing import TYPE_CHECKING, Any

import libbus
from libbus import _core

if TYPE_CHECKING:
    from libbus.flask import Bus as FlaskBus

__all__ = ["Handler"]

log: logging.Logger = logging.getLogger("libbus")

# Attributes of every record; others were given as extra=.
USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# A record that is too large keeps this many characters of each text.
SHORT = 2000

# Turns a logger's name into levels of a topic, and replaces characters that a topic may not have.
LEVELS = str.maketrans({".": "/", "+": "_", "#": "_", "\0": "_"})
NAME_CHARACTERS = 200


class Handler(logging.Handler):
    """Publishes each record on TOPIC/NAME, the name of its logger with slashes for dots: log/app/db. The topic of the root
    logger is log/root. The filter log/app/# has the records of the logger "app" and of all below it.

    A message is a dict, made on the logging thread. Its keys are

    - level: such as "ERROR";
    - message: the text with its arguments, or the formatter's text, if the handler has a formatter;
    - name: the logger's name;
    - time: a datetime;
    - process: the process id;
    - exception, stack: tracebacks as text, if there are any;
    - extra: a dict of the extra= values, if there are any; a value that cannot be packed is replaced by its repr();
    - dropped: the number of records dropped before this one, if any.

    The handler never raises and never waits for a reader. A record that cannot be published is dropped: `dropped` counts it, the
    next message has the count, and one warning on the logger "libbus" gives the reason, unless the bus is closed. Records that
    would cause a loop are dropped too: those of a callback that gets log/..., and those made while a record is published.

    Args:
        bus: A libbus.Bus, a libbus.flask.Bus, or the name of a bus, which the handler then opens and closes.
        topic: The first level of the topics.
        level: As for every handler of logging.

    Threads: any. Blocks: never for a reader, nor for another thread that logs.
    """

    def __init__(
        self,
        bus: libbus.Bus | FlaskBus | str,
        *,
        topic: str = "log",
        level: int | str = logging.NOTSET,
    ) -> None:
        super().__init__(level)
        if not isinstance(bus, str) and not hasattr(bus, "publish"):
            raise TypeError(
                f"bus must be a libbus.Bus, or the name of one, not {type(bus).__name__}"
            )
        libbus.filter_check(f"{topic}/x")
        self._own = libbus.Bus(bus, on_fork="reopen") if isinstance(bus, str) else None
        self.bus: libbus.Bus | FlaskBus = self._own or bus  # type: ignore[assignment]
        self.topic = topic
        self._inside = threading.local()
        self._dropped = self._told = 0
        self._warned = False

    @property
    def dropped(self) -> int:
        """The number of records that were not published."""
        return self._dropped

    def handle(self, record: logging.LogRecord) -> Any:
        """Does not take the lock of logging.Handler, so no thread waits for another."""
        passed: Any = self.filter(record)
        if isinstance(
            passed, logging.LogRecord
        ):  # a filter may replace the record, from Python 3.12 on
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "dropped_by", None) is self:
            return
        if getattr(self._inside, "now", False):
            self._drop()
            return
        self._inside.now = True
        failed = None
        try:
            topic = f"{self.topic}/{_plain(record.name)[:NAME_CHARACTERS].translate(LEVELS)}"
            if self._is_circle(topic, record):
                self._drop()
            else:
                self._publish(topic, self._payload(record))
                self._warned = False
        except Exception as error:  # noqa: BLE001 - the program must not fail because of its log
            self._drop()
            failed = error
        finally:
            self._inside.now = False
        if failed and not self._warned and not isinstance(failed, _core.ClosedError):
            self._warned = True
            self._warn(failed)

    def close(self) -> None:
        """Closes the bus if the handler opened it."""
        super().close()
        if self._own is not None:
            self._own.close()

    def __repr__(self) -> str:
        return f"<libbus.logging.Handler {self.topic}/# {logging.getLevelName(self.level)}>"

    # --- a message of a record ------------------------------------------------------------------------------

    def _payload(self, record: logging.LogRecord) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "level": record.levelname,
            "message": self._text(record),
            "name": record.name,
            "time": datetime.fromtimestamp(record.created, timezone.utc),
            "process": record.process,
        }
        if record.exc_info and record.exc_info[1] is not None:
            payload["exception"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        elif record.exc_text:
            payload["exception"] = record.exc_text
        if record.stack_info:
            payload["stack"] = record.stack_info
        if extra := {key: value for key, value in vars(record).items() if key not in USUAL}:
            payload["extra"] = {str(key): _packable(value) for key, value in extra.items()}
        return payload

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) if self.formatter else record.getMessage()
        except Exception as error:  # noqa: BLE001 - the arguments do not fit, or raise when they are formatted
            about = f"{type(error).__name__} while its text was formatted"
            return f"{_packable(record.msg)} with {_packable(record.args)!r}: {about}"

    def _publish(self, topic: str, payload: dict[str, Any]) -> None:
        before = self._dropped - self._told
        if before:
            payload["dropped"] = before
        try:
            self.bus.publish(topic, payload)
        except (
            TypeError,
            ValueError,
        ):  # too large, or half a surrogate pair, as in some file names
            self.bus.publish(topic, _shortened(payload))
        if before:
            self._told += before

    def _warn(self, error: Exception) -> None:
        """Logs to the other handlers; without any, to logging's last resort."""
        text = "log records are dropped: %s: %s"
        args = (type(error).__name__, error)
        record = log.makeRecord(log.name, logging.WARNING, __file__, 0, text, args, None)
        record.dropped_by = self
        logger: logging.Logger | None = log
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                log.handle(record)
                return
            logger = logger.parent if logger.propagate else None
        if logging.lastResort is not None:
            logging.lastResort.handle(record)

    def _drop(self) -> None:
        self.acquire()  # a lock of logging, which logging renews after a fork
        self._dropped += 1
        self.release()

    # --- loops ----------------------------------------------------------------------------------------------

    def _is_circle(self, topic: str, record: logging.LogRecord) -> bool:
        """Returns whether the record's message would reach the callback that logs it.

        A callback runs here if its code is on this thread's stack. A record of libbus itself counts as one of any callback.
        """
        bus = self.bus if isinstance(self.bus, libbus.Bus) else self.bus.bus
        receivers = [
            asked.function
            for asked in list(bus._callbacks._asked.values())
            if any(libbus.filter_covers(each, topic) for each in asked.filters)
        ]
        if not receivers:
            return False
        if record.name == log.name:
            return True
        codes = {code for function in receivers if (code := _code(function)) is not None}
        frame = _frame()
        while frame is not None:
            if frame.f_code in codes:
                return True
            frame = frame.f_back
        return False


def _frame() -> Any:
    import sys

    return sys._getframe(1)


def _code(function: Any) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code: CodeType | None = getattr(function, "__code__", None)
    return code or getattr(type(function).__call__, "__code__", None)


def _packable(value: Any) -> Any:
    """Returns the value, or its repr() if it cannot be packed."""
    with contextlib.suppress(Exception):
        libbus.packb(value)
        return value
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - any class may fail here
        return f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"


def _plain(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _shortened(payload: dict[str, Any]) -> dict[str, Any]:
    short: dict[str, Any] = {key: value for key, value in payload.items() if key != "extra"}
    for key, value in short.items():
        if isinstance(value, str):
            cut = len(value) - SHORT
            text = f"{value[: SHORT // 2]} … {value[-SHORT // 2 :]}" if cut > 0 else value
            short[key] = _plain(text)
    if "extra" in payload:
        short["extra"] = {
            _plain(key): _plain(repr(value))[:SHORT] for key, value in payload["extra"].items()
        }
    return short
