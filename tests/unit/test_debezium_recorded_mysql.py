"""Debezium's own encodings of MySQL's and MariaDB's values: every one that the real engines were
recorded to emit, against ours.

Where the two differ, the difference is in one of the lists below, with its reason; a difference
that is in no list fails, and so does an entry that is none any more.
"""

from __future__ import annotations

import base64
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx
from ensign_core.formats import formatter
from ensign_core.formats.debezium_mysql import bytes_render, render

FOLDER = Path(__file__).parents[1] / "fixtures" / "debezium"
RECORDINGS = sorted(p.name for f in ("mysql-*.json", "mariadb-*.json") for p in FOLDER.glob(f))

_PARTIAL = (("2015-05-00", "01:02:03"), ("0000-05-07", "01:02:03"))

VALUES: dict[tuple[str, str], object] = {
    # In Debezium negative: beyond its 64 bits.
    ("bigint unsigned", "9223372036854775808"): 9223372036854775808,
    ("bigint unsigned", "18446744073709551615"): 18446744073709551615,
    # In Debezium all digits of the 32 bits as a 64-bit number.
    ("float(7,4)", "999.0001"): 999.0001,
    # Dates that do not exist: in Debezium null, the epoch, or in its snapshot one of 2000.
    **{
        (f"date{end}", text): text
        for end in ("", " not null")
        for text in ("2015-05-00", "2015-00-00", "0000-05-07", "0000-01-01")
    },
    **{
        (kind + end, f"{day} {clock}{fraction}"): f"{day} {clock}{fraction}"
        for kind, fraction in (("datetime", ""), ("datetime(6)", ".000000"))
        for end in ("", " not null")
        for day, clock in _PARTIAL
    },
    ("datetime(3)", "2015-05-00 01:02:03.000"): "2015-05-00 01:02:03.000",
    ("datetime(3)", "0000-05-07 01:02:03.000"): "0000-05-07 01:02:03.000",
    # Debezium takes the year 18 for 2018.
    ("date", "0018-04-01"): -712863,
    # In Debezium 2000 and 1900.
    ("year", "0"): 0,
    # A point has coordinates whatever its column's type says.
    ("geometry", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAEQA=="): {
        "x": 1.0, "y": 2.5, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAARA", "srid": None,
    },
}  # fmt: skip
"""What we write where Debezium writes another value."""

EITHER: dict[str, str] = {
    "float": "the snapshot has six digits, the stream all",
    **dict.fromkeys(
        ("datetime", "datetime(1)", "datetime(3)", "datetime(4)", "datetime(6)"),
        "the snapshot moves days that the Gregorian calendar left out in 1582",
    ),
    **dict.fromkeys(
        ("timestamp", "timestamp(1)", "timestamp(3)", "timestamp(6)", "timestamp(6) not null"),
        "the snapshot leaves zeros at the end out; MariaDB's stream has an epoch for a zero date",
    ),
    "enum('a','b,c','d''e')": "the stream has a backslash before the comma",
    "json": "the stream leaves white space out",
    "varchar(20) compressed": "the stream stops",
}
"""Kinds of which Debezium's snapshot and stream write a value in two ways: ours is one of both."""


@cache
def recording(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def written(found: Any, value: Any) -> Any:
    """A value of a recorded column, through the whole format."""
    column = Column("v", found["native"], found["logical"], found["nullable"])
    schema = Schema("d.t", (("database", "d"), ("table", "t")), (column,))
    kind = b"b" if "bytes" in value else b"t"
    data = base64.b64decode(value["bytes"]) if "bytes" in value else value["text"].encode()
    builder = BatchBuilder().begin(Tx("0-1-7", "binlog.000001:4", 0))
    builder.add(Op.INSERT, schema, b"N\0\1" + kind + struct.pack(">I", len(data)) + data)
    (line,) = formatter("debezium").lines(builder.take(None)).texts
    return json.loads(line)["after"]["v"]


def same(theirs: Any, ours: Any, kind: str) -> bool:
    if isinstance(theirs, float) and isinstance(ours, int | float):
        if kind == "float" or kind.startswith("vector"):
            theirs, ours = (struct.unpack("f", struct.pack("f", v))[0] for v in (theirs, ours))
        return bool(theirs == ours)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(
            same(t, o, kind) for t, o in zip(theirs, ours, strict=True)
        )
    return type(theirs) is type(ours) and bool(theirs == ours)


@pytest.mark.parametrize("name", RECORDINGS)
def test_values_are_debeziums_but_for_what_is_explained(name: str) -> None:
    wrong = []
    explained: set[object] = set()
    columns = recording(name)["columns"]
    for kind, found in columns.items():
        for value in found["values"]:
            theirs = (value["value"],) if "value" in value else (value["snapshot"], value["stream"])
            ours = written(found, value)
            alike = [same(t, ours, kind) for t in theirs]
            text = value.get("text", value.get("bytes"))
            if all(alike):
                continue
            if any(alike):
                explained.add(kind)
                right = kind in EITHER
            else:
                explained.add((kind, text))
                right = (kind, text) in VALUES and VALUES[kind, text] == ours
            if not right:
                wrong.append((kind, text, theirs, ours))
    assert wrong == []
    texts = {
        (kind, v.get("text", v.get("bytes"))) for kind, found in columns.items()
        for v in found["values"]
    }  # fmt: skip
    of_both = {
        k for k in EITHER if k in columns and any("stream" in v for v in columns[k]["values"])
    }
    assert {pair for pair in VALUES if pair in texts} | of_both == explained


@pytest.mark.parametrize("name", RECORDINGS)
def test_types_keep_what_a_schema_of_debezium_says(name: str) -> None:
    """A consumer's type of a column holds what we write there."""
    types = {
        "boolean": bool, "int16": int, "int32": int, "int64": int, "float": int | float,
        "double": int | float, "string": str, "bytes": str, "struct": dict, "array": list,
    }  # fmt: skip
    for kind, found in recording(name)["columns"].items():
        for value in found["values"]:
            ours = written(found, value)
            if ours is not None and (kind, value.get("text")) not in VALUES:
                assert isinstance(ours, types[found["schema"]["type"]]), (kind, value, ours)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_source_has_debeziums_fields(name: str) -> None:
    schema = Schema("d.t", (("database", "d1"), ("table", "tend")), (Column("v", "int", "int"),))
    theirs = recording(name)["source"]
    for tx, moment in (
        (Tx(None, f"{theirs['snapshot']['file']}:{theirs['snapshot']['pos']}", None), "snapshot"),
        (Tx(theirs["stream"]["gtid"], f"{theirs['stream']['file']}:{theirs['stream']['pos']}",
            theirs["stream"]["ts_us"]), "stream"),
    ):  # fmt: skip
        builder = BatchBuilder().begin(tx)
        builder.add(Op.INSERT, schema, b"N\0\1n")
        (line,) = formatter("debezium").lines(builder.take(None)).texts
        ours, expected = json.loads(line)["source"], theirs[moment]
        assert ours.keys() == expected.keys()
        other = {k for k in ours if ours[k] != expected[k]}
        explained = {"version", "name", "connector", "thread", "server_id"}
        if moment == "snapshot":
            explained |= {"ts_ms", "ts_us", "ts_ns", "table"}
        assert other <= explained


def test_spatial_bytes_that_are_none_stay_base64() -> None:
    for native in ("geometry", "point"):
        function = bytes_render(Column("c", native, "bytes"))
        assert function is not None
        assert json.loads(function(b"\0\0\0\0abc")) == "AAAAAGFiYw=="
    assert bytes_render(Column("c", "blob", "bytes")) is None
    assert render(Column("c", "int(10) unsigned", "int")) is None
