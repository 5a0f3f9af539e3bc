"""Formats: from a batch to lines of text. Sinks, `ensign read` and tests make a `Formatter` by the
name in a config or on the command line and give it batch after batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

from ensign_core.errors import EnsignError
from ensign_core.formats.cloudevents import CloudEventsFormatter
from ensign_core.formats.debezium import DebeziumFormatter
from ensign_core.formats.flat import FlatFormatter
from ensign_core.formats.json import JsonFormatter
from ensign_core.formats.lines import Formatter, Lines, Messages
from ensign_core.formats.raw import RawFormatter

__all__ = ["FORMATS", "FormatName", "Formatter", "Lines", "Messages", "formatter"]

FormatName = Literal["json", "flat", "debezium", "cloudevents", "raw"]
"""For a config model's field: pydantic then names the choices in its error."""

_MAKERS: Final[dict[FormatName, Callable[[], Formatter]]] = {
    "json": JsonFormatter,
    "flat": FlatFormatter,
    "debezium": DebeziumFormatter,
    "cloudevents": CloudEventsFormatter,
    "raw": RawFormatter,
}

FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)


def formatter(name: str) -> Formatter:
    """A new formatter. Raises ``format.unknown``."""
    for known, make in _MAKERS.items():
        if known == name:
            return make()
    raise EnsignError(
        "format.unknown",
        "There is no format of that name.",
        f"Choose one of: {', '.join(FORMATS)}.",
    )
