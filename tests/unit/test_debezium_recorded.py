"""Debezium's own encodings: every value that the real engine was recorded to emit, against ours.

Where the two differ, the difference is in one of the lists below, with its reason; a difference
that is in no list fails, and so does an entry that is none any more.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ensign_core.change import Column
from ensign_core.formats.arrays import DELIMITERS, elements
from ensign_core.formats.debezium_values import PLACEHOLDER, placeholder, render

FOLDER = Path(__file__).parents[1] / "fixtures" / "debezium"
RECORDINGS = sorted(path.name for path in FOLDER.glob("postgres-*.json"))
STOPS = {"engine": "stops"}
NOTHING = (None, STOPS)
"""What Debezium has for a value that it does not emit: null, or its own end."""

VALUES: dict[tuple[str, str], object] = {
    # Zeros behind the point belong to the value; Debezium strips them where no scale is declared.
    ("numeric", "1.10"): {"scale": 2, "value": "bg=="},
    ("numeric", "0.00"): {"scale": 2, "value": "AA=="},
    # Debezium takes the scale -2 for 2046.
    ("numeric(3,-2)", "12300"): "ew==",
    ("numeric(3,-2)", "-1200"): "9A==",
    # In Debezium overflows, and its snapshot counts days before 1582 by the Julian calendar.
    ("date", "infinity"): 2147483647,
    ("date", "-infinity"): -2147483648,
    ("date", "0044-03-15 BC"): -735160,
    ("date", "4714-11-24 BC"): -2440588,
    ("date", "1582-10-10"): -141432,
    ("timetz", "24:00:00+00"): "24:00:00Z",
    # Beyond 64 bits in Debezium's unit.
    ("timestamp", "294276-12-31 23:59:59.999999"): "294276-12-31 23:59:59.999999",
    ("interval", "-178000000 years"): "-178000000 years",
    # Debezium says 0.
    ("interval", "infinity"): "infinity",
    ("interval", "-infinity"): "-infinity",
    # As many bytes as the documentation says; the engine leaves out those of zeros.
    ("bit(4)", "0000"): "AA==",
    ("bit(9)", "000000001"): "AQA=",
    # Debezium has an empty list.
    ("int2vector", "1 2 -3"): "1 2 -3",
    ("oidvector", "1 2 3"): "1 2 3",
}  # fmt: skip
"""What we write where Debezium writes another value."""

ARRAYS: dict[str, str] = {
    "numeric(3,-2)[]": "as numeric(3,-2)",
    "date[]": "as date",
    "time[]": "24:00:00 is 0 in Debezium, and microseconds are lost",
    "time(0)[]": "24:00:00 is 0 in Debezium",
    "time(3)[]": "24:00:00 is 0 in Debezium",
    "time(4)[]": "microseconds are lost in Debezium",
    "timetz[]": "fractions of seconds are lost in Debezium, 24:00:00 is 00:00:00",
    "timetz(2)[]": "fractions of seconds are lost in Debezium",
    "timestamp[]": "before 1582 Debezium counts by the Julian calendar, and it overflows",
    "timestamp(0)[]": "before 1582 Debezium counts by the Julian calendar",
    "timestamptz[]": "BC is AD in Debezium, and -infinity is a year",
}
"""Arrays whose elements are in Debezium other than columns of their type."""


class Told(NamedTuple):
    """One value of one type, as the database, Debezium (by its snapshot and its stream) and we
    write it."""

    kind: str
    column: Column
    absent: bool
    text: str
    theirs: tuple[Any, ...]
    ours: Any


@cache
def recording(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def column_of(found: Any) -> Column:
    return Column("v", found["native"], found["logical"])


def written(column: Column, text: str) -> Any:
    function = render(column)
    return json.loads(function(text) if function else text)


def told(name: str) -> Iterator[Told]:
    for kind, found in recording(name)["columns"].items():
        column = column_of(found)
        for value in found["values"]:
            theirs = (value["value"],) if "value" in value else (value["snapshot"], value["stream"])
            text = value["text"]
            yield Told(kind, column, found["schema"] is None, text, theirs, written(column, text))


def same(theirs: Any, ours: Any, column: Column) -> bool:
    if isinstance(theirs, float) and isinstance(ours, int | float):
        if column.native.startswith("real"):
            theirs, ours = (struct.unpack("f", struct.pack("f", v))[0] for v in (theirs, ours))
        return math.copysign(1, theirs) == math.copysign(1, ours or theirs) and theirs == ours
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(same, theirs, ours, [column] * len(ours)))
    return type(theirs) is type(ours) and bool(theirs == ours)


def dimensions(text: str) -> int:
    inside = text[text.index("{") :]
    return len(inside) - len(inside.lstrip("{"))


def of_elements(case: Told) -> Any:
    """An array's elements, each as a column of their type is written."""
    native = case.column.native.removesuffix("[]")
    delimiter = DELIMITERS.get(native.partition("(")[0].rpartition(".")[2], ",")
    items = recording_of_element(case.kind.removesuffix("[]"))
    found = elements(case.text, delimiter)
    assert found is not None
    return [None if e is None else written(items, e) for e in found]


@cache
def recording_of_element(kind: str) -> Column:
    for name in RECORDINGS:
        found = recording(name)["columns"].get(kind)
        if found is not None:
            return column_of(found)
    raise KeyError(kind)


@pytest.mark.parametrize("name", RECORDINGS)
def test_values_are_debeziums_but_for_what_is_explained(name: str) -> None:
    wrong = []
    explained: set[tuple[str, str] | str] = set()
    for case in told(name):
        kind, text = case.kind, case.text
        if all(same(t, case.ours, case.column) for t in case.theirs) and not case.absent:
            continue
        if kind.endswith("[]"):
            if dimensions(text) > 1:
                # Debezium has nulls or the addresses of Java's objects.
                right = case.ours == text
            elif case.absent or case.theirs == (None,):
                right = isinstance(case.ours, list)
            else:
                explained.add(kind)
                right = kind in ARRAYS and case.ours == of_elements(case)
        elif case.absent:
            right = case.ours == text or str(case.ours) == text
        elif any(t in NOTHING for t in case.theirs):
            right = case.ours is not None
        else:
            explained.add((kind, text))
            right = VALUES.get((kind, text)) == case.ours
        if not right:
            wrong.append(case)
    assert wrong == []
    kinds = recording(name)["columns"]
    listed = {k for k in ARRAYS if k in kinds} | {
        (k, t) for k, t in VALUES if any(v["text"] == t for v in kinds[k]["values"])
    }
    assert listed == explained


@pytest.mark.parametrize("name", RECORDINGS)
def test_arrays_are_written_as_columns_of_their_elements(name: str) -> None:
    """But for domains, whose arrays do not say what they are of."""
    domains = {"percent", "numbers", "couple", "moment", "lo"}
    for case in told(name):
        element = case.kind.removesuffix("[]")
        if element == case.kind or dimensions(case.text) > 1:
            continue
        if element not in domains and not element.startswith("information_schema."):
            assert case.ours == of_elements(case), case


@pytest.mark.parametrize("name", RECORDINGS)
def test_placeholders_are_debeziums_where_it_has_one(name: str) -> None:
    for kind, found in recording(name)["placeholders"].items():
        ours = json.loads(placeholder(column_of(found)))
        # Debezium writes null for want of one, which says something else.
        expected = (
            found["value"]
            if found["value"] is not None
            else list(PLACEHOLDER.encode())
            if kind == "smallint[]"
            else [PLACEHOLDER]
            if kind.endswith("[]")
            else PLACEHOLDER
        )
        assert ours == expected, kind
