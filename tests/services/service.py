"""What runs as long as a ``with`` is open."""

from __future__ import annotations

import atexit
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, TypeVar


class Service(ABC):
    """``with service``: begun on the way in, closed on the way out, and when it does not begin."""

    @abstractmethod
    def begin(self) -> None:
        """Start, and return when it is ready."""

    @abstractmethod
    def close(self) -> None:
        """End it and forget its data. Called, too, where `begin` failed half way."""

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


S = TypeVar("S", bound=Service)


def lasting(service: S) -> S:
    """A service that is begun now and runs up to the end of this process."""
    service.__enter__()
    atexit.register(service.close)
    return service
