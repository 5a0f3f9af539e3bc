"""Values as a condition compares them: numbers as numbers, moments as moments, all else as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Final, Literal, NamedTuple

from ensign_core.change import Column, Logical

Kind = Literal["number", "text", "moment", "uuid", "boolean", "null"]

DIGITS_MAX = 300_000
"""Digits to which sums and products are exact; no server's numeric has half of them."""

exact: Final = Context(prec=DIGITS_MAX, traps=[])


class NotANumber:
    """NaN, as Postgres orders it: equal to itself and above all numbers."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotANumber)

    def __hash__(self) -> int:
        return 0

    def __lt__(self, _other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return self == other

    def __gt__(self, other: object) -> bool:
        return self != other

    def __ge__(self, _other: object) -> bool:
        return True


NAN: Final = NotANumber()
Number = int | Decimal | NotANumber


def number(text: str) -> Number:
    """A number of any precision: a float is what its text says."""
    found = Decimal(text)
    return NAN if found.is_nan() else found


Moment = tuple[float, str, str, str]
"""Year, month and day, time of day, digits of the fraction without trailing zeros: these compare as
the moments do."""

_MOMENT = re.compile(
    r"(\d+)-(\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?)(?:\.(\d*))?)? ?(?:Z|[+-]00(?::?00)?)?( BC)?"
)


def moment(text: str) -> Moment:
    """A date or time stamp in UTC. Raises ValueError for what is none."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        if text in ("infinity", "-infinity"):
            return float(text), "", "", ""
        raise ValueError("this is no moment")
    year, day, time, fraction, era = match.groups()
    time = time or "00:00:00"
    return (
        # 1 BC is the year before 1.
        1 - int(year) if era else int(year), day, time if len(time) == 8 else f"{time}:00",
        (fraction or "").rstrip("0"),
    )  # fmt: skip


def boolean(text: str) -> bool:
    """Postgres writes ``t`` and ``f``."""
    return text in ("t", "true", "1")


class Type(NamedTuple):
    """How a column's text is compared. What is not ``ordered`` is equal or not."""

    kind: Kind
    convert: Callable[[str], object] | None = None
    ordered: bool = True


_TYPES: Final[dict[Logical, Type]] = {
    "bool": Type("boolean", boolean, ordered=False),
    "int": Type("number", int),
    "float": Type("number", number),
    "decimal": Type("number", number),
    "date": Type("moment", moment),
    "timestamp": Type("moment", moment),
    "timestamptz": Type("moment", moment),
    "uuid": Type("uuid"),
    "text": Type("text"),
}
_UNORDERED: Final = Type("text", ordered=False)


def type_of(column: Column) -> Type:
    """The type of a column's values in a condition."""
    return _TYPES.get(column.logical, _UNORDERED)
