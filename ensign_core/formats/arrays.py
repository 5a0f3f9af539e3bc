"""PostgreSQL's arrays as text, taken apart: pure functions.

After "Array Input and Output Syntax" in the PostgreSQL documentation: elements in braces, an
element in double quotes has backslashes before quotes and backslashes, a bare ``NULL`` is null, and
bounds that do not start at 1 come before the braces (``[0:1]={1,2}``). Between the elements is a
comma, but for types that were made with another delimiter.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

DELIMITERS: Final = {"box": ";", "geometry": ":", "geography": ":"}
"""Types whose elements are not separated by a comma (``pg_type.typdelim``): PostgreSQL's own and
PostGIS'."""

_BOUNDS = re.compile(r"(?:\[[+-]?\d+:[+-]?\d+\])+=")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@cache
def _item(delimiter: str) -> re.Pattern[str]:
    return re.compile(
        rf'(?:"((?:[^"\\]|\\.)*)"|([^"{{}}\\{delimiter}]+))(?:{delimiter}|$)', re.DOTALL
    )


def elements(text: str, delimiter: str = ",") -> list[str | None] | None:
    """The elements of an array of one dimension (or none), whatever its lower bound; None for an
    array of several. Raises ValueError for text that is no array."""
    bounds = _BOUNDS.match(text)
    inside = text[bounds.end() :] if bounds else text
    if inside[:1] != "{" or inside[-1:] != "}" or len(inside) < 2:
        raise ValueError
    inside = inside[1:-1]
    if inside[:1] == "{":
        return None
    found: list[str | None] = []
    at, end, match_at = 0, len(inside), _item(delimiter).match
    while at < end:
        match = match_at(inside, at)
        if match is None:
            raise ValueError
        quoted, bare = match.groups()
        if bare is None:
            found.append(_ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted)
        else:
            found.append(None if bare == "NULL" else bare)
        at = match.end()
    if inside[-1:] == delimiter:
        raise ValueError
    return found
