"""Reading the bytes of an event within their bounds.

Packed integers are MySQL's length-encoded ones (MySQL Source Code Documentation, "Integer Types").
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from connectors.mysql.damage import DamagedError

EVENT_BYTES_MAX: Final = (1 << 30) + (1 << 20)
"""The most that an event may have, decompressed too: the servers' own limit, 1 GiB, and room for
headers."""

_uint16 = struct.Struct("<H")
_uint64 = struct.Struct("<Q")

P = ParamSpec("P")
R = TypeVar("R")


def parses(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that reads one kind of event: whatever it stumbles over is `DamagedError`."""

    def decorate(parse: Callable[P, R]) -> Callable[P, R]:
        @wraps(parse)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return parse(*args, **kwargs)
            except DamagedError:
                raise
            except (struct.error, IndexError, ValueError):
                raise DamagedError(f"{what} that is cut short or wrong inside") from None

        return bounded

    return decorate


def part(data: bytes, at: int, size: int) -> bytes:
    """The ``size`` bytes from ``at`` on, all of them."""
    end = at + size
    if size < 0 or at < 0 or end > len(data):
        raise DamagedError("a field that is longer than what holds it")
    return data[at:end]


def packed(data: bytes, at: int) -> tuple[int, int]:
    """The packed integer at ``at``, and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    if first == 252:
        return _uint16.unpack_from(data, at + 1)[0], at + 3
    if first == 253:
        return int.from_bytes(part(data, at + 1, 3), "little"), at + 4
    if first == 254:
        return _uint64.unpack_from(data, at + 1)[0], at + 9
    raise DamagedError("a packed integer of an unknown form")


def packed_part(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes at ``at`` behind their length as a packed integer, and where they end."""
    size, at = packed(data, at)
    return part(data, at, size), at + size
