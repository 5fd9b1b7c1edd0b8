"""Role: what one process of a host does at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libbus import _core

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from libbus._bus import Bus


class Role:
    """A role of a named bus, which is this bus's until close() or the end of the bus or its process.

    Keeps its bus open.
    """

    def __init__(self, bus: Bus, name: str, role: _core.Role) -> None:
        self.bus = bus
        self.name = name
        self._role = role

    @property
    def closed(self) -> bool:
        """True after close() of it or of the bus, and in a forked child."""
        return self._role.closed or self.bus.closed

    def close(self) -> None:
        """Gives it back; one of those who wait for it has it then."""
        self._role.close()

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
        return f"<libbus.Role {self.name}{' closed' if self.closed else ''}>"
