"""Publisher: a topic for many messages, with back-pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libbus import _core
from libbus._loop import running_loop

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from libbus._bus import Bus


class Publisher(_core.Publisher):
    """A topic for many messages, made by bus.publisher().

    Keeps its bus open. Several threads may share one. A send() that waits holds up neither the others nor
    close(), and Ctrl-C ends it.
    """

    def __new__(cls, bus: Bus, topic: str, wait: float | None) -> Self:
        return super().__new__(cls, bus, topic, wait=wait)

    def __init__(self, bus: Bus, topic: str, wait: float | None) -> None:
        self.bus = bus
        self.wait = wait

    def _may_wait(self) -> bool:
        return not self.bus._callbacks.here() and running_loop() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        wait = "" if self.wait == 0 else f" wait={self.wait}"
        return f"<libbus.Publisher {self.topic}{wait}{' closed' if self.closed else ''}>"
