"""MySQL's binary JSON: bytes that a server wrote, and bytes that none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.mysql.binaryjson import JsonError, json_patched, json_text
from tests.plain.binaryjson import Json, Opaque, encode, text

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "mysql" / "json.json").read_text()
)
"""From the binary log of the server that is named in it, with the texts that it showed; the
expressions are those of the test of real servers."""

DEPTH_MAX = 100


@pytest.mark.parametrize("document", RECORDED["documents"], ids=lambda document: document["sql"])
def test_a_recorded_document(document: dict[str, str]) -> None:
    assert json_text(bytes.fromhex(document["binary"])).decode() == document["text"]


@pytest.mark.parametrize("update", RECORDED["updates"], ids=lambda update: update["sql"])
def test_a_recorded_partial_update(update: dict[str, str]) -> None:
    old, changes = bytes.fromhex(update["old"]), bytes.fromhex(update["changes"])
    assert json_patched(old, changes).decode() == update["text"]


def test_no_bytes_are_a_null() -> None:
    assert json_text(b"") == b"null"
    assert json_patched(b"", b"") == b"null"


def packed(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)


def month(year: int, number: int) -> int:
    return (year * 13 + number) << 46


@pytest.mark.parametrize(
    ("type_", "data", "shown"),
    [
        # The example of "decimal2bin" in the server's decimal.c, behind precision and scale.
        (246, bytes.fromhex("0e04 810dfb38d204d2"), "1234567890.1234"),
        (246, bytes.fromhex("0e04 7ef204c72dfb2d"), "-1234567890.1234"),
        (246, bytes.fromhex("0100 80"), "0"),
        (246, bytes.fromhex("0202 85"), "0.05"),
        # Zero and partial dates, which there are without NO_ZERO_DATE.
        (12, packed(0), '"0000-00-00 00:00:00.000000"'),
        (10, packed(month(2000, 0)), '"2000-00-00"'),
        (7, packed(month(2000, 1) + (2 << 41)), '"2000-01-02 00:00:00.000000"'),
        (11, packed(0), '"00:00:00.000000"'),
        (11, packed(100 << 36), '"100:00:00.000000"'),
        (11, packed(-(838 << 36) - 1), '"-838:00:00.000001"'),
    ],
)
def test_opaque_values(type_: int, data: bytes, shown: str) -> None:
    assert json_text(encode([Opaque(type_, data, "")])).decode() == f"[{shown}]"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"\x0d", id="unknown type"),
        pytest.param(b"\x04\x03", id="unknown literal"),
        pytest.param(b"\x0b\0\0\0\0\0\0\xf0\x7f", id="infinity"),
        pytest.param(b"\x0c\x02\xc3\x28", id="not UTF-8"),
        pytest.param(b"\x0c\xff\xff\xff\xff\xff\x01", id="length of six bytes"),
        pytest.param(b"\x0f\xf6\x03\x02\x03\x80", id="scale above precision"),
        pytest.param(b"\x0f\xf6\x03\x02\x00\xff", id="three digits in two"),
        pytest.param(b"\x0f\xf6\x04\x02\x00\x80\0", id="decimal too long"),
        pytest.param(b"\x0f\x0a\x07" + bytes(7), id="date of seven bytes"),
        pytest.param(b"\x0f\x0b\x08" + (60 << 24).to_bytes(8, "little"), id="60 seconds"),
        pytest.param(b"\x0f\x0c\x08" + b"\xff" * 8, id="negative datetime"),
        pytest.param(b"\x02\x01\x00\x07\x00\x02\x00\x00", id="points to its head"),
        pytest.param(b"\x02\x01\x00\x07\x00\x0c\x08\x00", id="points behind its end"),
        pytest.param(b"\x02\x02\x00\x07\x00\x04\x00\x00", id="head longer than itself"),
        pytest.param(b"\x00\x01\x00\x0b\x00\x0b\x00\x01\x00\x04\x00\x00", id="key behind its end"),
    ],
)
def test_what_no_server_writes_is_an_error(document: bytes) -> None:
    with pytest.raises(JsonError):
        json_text(document)
    with pytest.raises(JsonError):
        json_patched(document, b"")


def test_cut_documents_are_errors() -> None:
    value: Json = {"a": [1, 70_000, 2**40, 1.5, "text", None], "b": {"c": Opaque(15, b"x", "")}}
    whole = encode(value)
    for size in range(1, len(whole)):
        with pytest.raises(JsonError):
            json_text(whole[:size])


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_as_the_server_limits_it() -> None:
    deepest = nested(DEPTH_MAX)
    assert json_text(encode(deepest)).decode() == text(deepest)
    assert json_patched(encode(deepest), b"").decode() == text(deepest)
    with pytest.raises(JsonError):
        json_text(encode(nested(DEPTH_MAX + 1)))
    change = diff(0, "$[0]", encode(nested(DEPTH_MAX)))
    with pytest.raises(JsonError):
        json_patched(encode([1]), change)


def test_values_that_share_their_bytes_are_no_document() -> None:
    """Each array has the next one twice: 2 ** 20 values in 200 bytes."""
    arrays = 20
    document = b"\x02"
    for left in range(arrays, 0, -1):
        size = left * 10 + 4
        document += b"\x02\x00" + size.to_bytes(2, "little") + b"\x02\x0a\x00" * 2
    document += b"\x00\x00\x04\x00"
    with pytest.raises(JsonError):
        json_text(document)
    with pytest.raises(JsonError):
        json_patched(document, b"")


def diff(operation: int, path: str, value: bytes = b"") -> bytes:
    head = bytes((operation,)) + counted(path.encode())
    return head if operation == 2 else head + counted(value)


def counted(data: bytes) -> bytes:
    """Bytes behind their length."""
    size = len(data)
    return (bytes((size,)) if size < 251 else b"\xfc" + size.to_bytes(2, "little")) + data


ONE = encode(1)


@pytest.mark.parametrize(
    ("old", "changes", "new"),
    [
        ([1, 2], diff(1, "$[1]", encode("in")), [1, "in", 2]),
        ([1, 2], diff(1, "$[7]", ONE), [1, 2, 1]),
        ([1, 2], diff(1, "$[last]", encode(3)), [1, 3, 2]),
        ([1, 2], diff(1, "$[last-5]", encode(3)), [3, 1, 2]),
        ({"b": 1}, diff(1, "$.aa", ONE) + diff(1, "$.a", ONE), {"a": 1, "b": 1, "aa": 1}),
        (
            {"a": 1},
            diff(2, "$.a") + diff(1, "$.a", encode([])) + diff(1, "$.a[0]", ONE),
            {"a": [1]},
        ),
        ({'"': {"": 1}}, diff(0, '$."\\""."\\u0000"', ONE), None),
        ({'"': {"": 1}}, diff(0, '$."\\"".""', encode(None)), {'"': {"": None}}),
        ({"a": 1}, diff(0, "$", ONE), None),
        ({"a": 1}, diff(0, "$.b", ONE), None),
        ({"a": 1}, diff(1, "$.a", ONE), None),
        ({"a": 1}, diff(2, "$.b"), None),
        ({"a": 1}, diff(0, "$[0]", ONE), None),
        ({"a": 1}, diff(0, "$.a.b", ONE), None),
        ({"a": 1}, diff(0, "$.*", ONE), None),
        ({"a": 1}, diff(0, '$."\\ud800"', ONE), None),
        ({"a": 1}, diff(3, "$.a", ONE), None),
        ({"a": 1}, diff(0, "$.a", b"\x0d"), None),
        ([1], diff(0, "$[1]", ONE), None),
        ([1], diff(2, "$[last-1]"), None),
        ([1], diff(2, "$[0]")[:-1], None),
        ([1], b"\x02\xfb$[0]", None),
        ([1], b"\x02\xfc\x04\x00$[0]", []),
        ([1], b"\x02\xfc\x04", None),
        ([1], b"\x02", None),
    ],
)
def test_changes_are_applied_in_turn_and_only_where_they_fit(
    old: Json, changes: bytes, new: Json
) -> None:
    if new is None:
        with pytest.raises(JsonError):
            json_patched(encode(old), changes)
    else:
        assert json_patched(encode(old), changes).decode() == text(new)
