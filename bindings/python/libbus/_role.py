"""Role: work that one process on a named bus does at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libbus import _core
from libbus._closing import Closing

if TYPE_CHECKING:
    from libbus._bus import Bus


class Role(Closing):
    """A role of a named bus, taken by bus.role() and held until close(), or the end of the bus or its process.

    Keeps its bus open.
    """

    name: str
    """The name of the role."""

    def __init__(self, bus: Bus, name: str, role: _core.Role) -> None:
        self.bus = bus
        self.name = name
        self._role = role

    @property
    def closed(self) -> bool:
        """True after close() of the role or the bus, and in a forked child."""
        return self._role.closed or self.bus.closed

    def close(self) -> None:
        """Gives the role back. One of the waiting processes takes it.

        Threads: any. Blocks: never.
        """
        self._role.close()
        self.bus._let_go()

    def _about(self) -> str:
        return self.name
