"""The operations of conditions on lists of values, three-valued: None is null."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any, Final

from ensign_core.transforms.typed import NAN, Number, exact

Values = list[Any]


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Values, Values], Values]:
    def compared(left: Values, right: Values) -> Values:
        return [
            None if a is None or b is None else compare(a, b)
            for a, b in zip(left, right, strict=True)
        ]

    return compared


COMPARISONS: Final = {
    name: _comparison(getattr(operator, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}


def both(left: Values, right: Values) -> Values:
    """AND."""
    return [
        False if a is False or b is False else None if a is None or b is None else True
        for a, b in zip(left, right, strict=True)
    ]


def any_of(left: Values, right: Values) -> Values:
    """OR."""
    return [
        True if a or b else None if a is None or b is None else False
        for a, b in zip(left, right, strict=True)
    ]


def negated(values: Values) -> Values:
    return [None if value is None else not value for value in values]


def within(values: Values, among: Collection[object], null: bool) -> Values:
    """IN a list of constants, with or without a null."""
    missing = None if null else False
    return [None if value is None else True if value in among else missing for value in values]


def like(pattern: str, escape: str, *, fold: bool) -> re.Pattern[str]:
    """A pattern of LIKE: ``%`` any text, ``_`` any character, and what follows the escape character
    itself.

    What stands between two ``%`` is looked for once, at the first place where it is, for what
    follows may be anywhere behind: with each place tried, a long text would take its length
    squared, or worse.
    """
    between = [""]
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            between[-1] += re.escape(next(chars, escape))
        elif char == "%":
            between.append("")
        else:
            between[-1] += "." if char == "_" else re.escape(char)
    first, *middle = between
    last = middle.pop() if middle else None
    found = first + "".join(f"(?>.*?{part})" for part in middle if part)
    if last is not None:
        found += f".*{last}"
    return re.compile(found, re.DOTALL | (re.IGNORECASE if fold else 0))


def matched(values: Values, pattern: re.Pattern[str]) -> Values:
    match = pattern.fullmatch
    return [None if value is None else match(value) is not None for value in values]


def _known(found: Decimal) -> Number:
    return NAN if found.is_nan() else found


def _add(a: Any, b: Any) -> Number:
    return a + b if type(a) is int is type(b) else _known(exact.add(a, b))


def _sub(a: Any, b: Any) -> Number:
    return a - b if type(a) is int is type(b) else _known(exact.subtract(a, b))


def _mul(a: Any, b: Any) -> Number:
    return a * b if type(a) is int is type(b) else _known(exact.multiply(a, b))


def _mod(a: Any, b: Any) -> Number | None:
    """The remainder has the sign of the dividend, as in SQL; by zero it is null."""
    if b == 0:
        return None
    if type(a) is int is type(b):
        rest: int = abs(a) % abs(b)
        return -rest if a < 0 else rest
    return _known(exact.remainder(a, b))


ARITHMETIC: Final[dict[str, Callable[[Any, Any], Number | None]]] = {
    "add": _add, "sub": _sub, "mul": _mul, "mod": _mod,
}  # fmt: skip


def calculated(
    calculate: Callable[[Any, Any], Number | None], left: Values, right: Values
) -> Values:
    """A sum, product or remainder; NaN stays NaN."""
    return [
        None if a is None or b is None
        else NAN if a is NAN or b is NAN
        else calculate(a, b)
        for a, b in zip(left, right, strict=True)
    ]  # fmt: skip
