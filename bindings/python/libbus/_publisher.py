"""Publisher: a topic for many messages, with back-pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libbus import _core
from libbus._closing import Closing
from libbus._loop import running_loop

if TYPE_CHECKING:
    from typing_extensions import Self

    from libbus._bus import Bus


class Publisher(_core.Publisher, Closing):
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

    def _about(self) -> str:
        return self.topic if self.wait == 0 else f"{self.topic} wait={self.wait}"
