"""Sizes and times as people write them: ``50GB``, ``7d``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

SIZES = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
TIMES_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)")


def size_of(text: str) -> int | None:
    """Bytes, rounded down; None for what is no size."""
    found = _quantity(text, SIZES)
    return None if found is None else int(found)


def seconds_of(text: str) -> float | None:
    """Seconds; None for what is no time."""
    found = _quantity(text, TIMES_S)
    return None if found is None else float(found)


def _quantity(text: str, units: dict[str, int]) -> Decimal | None:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        return None
    return Decimal(match[1]) * units[match[2]]


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    size = size_of(value)
    if size is None:
        raise PydanticCustomError(
            "config.invalid_value",
            "The value is not a size.",
            {"remedy": "Write it as 500MB, 50GB or 1TiB."},
        )
    return size


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    seconds = seconds_of(value)
    if seconds is None:
        raise PydanticCustomError(
            "config.invalid_value",
            "The value is not a length of time.",
            {"remedy": "Write it as 90s, 12h or 7d."},
        )
    return seconds


Size = Annotated[int, BeforeValidator(_size)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
