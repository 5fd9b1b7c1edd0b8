"""Closing: the base of objects that end with close() or a with block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Closing:
    """Closes at the end of a with block, or of an async with block, which does not wait unless __aexit__ is overridden."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool: ...

        def close(self) -> Any: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _about(self) -> str:
        """The details that repr() shows."""
        raise NotImplementedError

    def __repr__(self) -> str:
        words = f"{type(self).__name__} {self._about()}{' closed' if self.closed else ''}"
        return f"<libbus.{words}>"
