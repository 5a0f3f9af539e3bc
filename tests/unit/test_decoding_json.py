"""Records of JSON as rows, by example."""

from __future__ import annotations

import json

import pytest

from ensign_core.change import BatchBuilder, Op
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.formats.decoding import Decoder, Row, decoder
from ensign_core.rows import decode
from ensign_core.rows.members import DEPTH_MAX


def row_of(value: bytes | None, key: bytes | None = None, made: Decoder | None = None) -> Row:
    row = (made or decoder("json")).row("shop.orders", key, value)
    assert row is not None
    return row


def fields(row: Row) -> bytes:
    """The object that the format ``json`` makes of a row: key and after, or before."""
    builder = BatchBuilder()
    builder.add(row.op, row.schema, row.body)
    (line,) = formatter("json").lines(builder.take(None)).texts
    start = line.index(b'"key":')
    return line[start : line.index(b',"unchanged"')]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"b":-0,"c":12345678901234567890123456789012345678901234567890}',
        '{"a":1.10,"b":-1.5E+3,"c":1e400,"d":0.1e-7,"e":-0.0}',
        '{"a":true,"b":false,"c":null}',
        '{"a":{"x": [1, 2.50, {"x":1,"x":2}]},"b":[],"c":[[]],"d":{}}',
        '{"":"","é":"\U0001f600","c":"a\\"b\\\\c\\n"}',
        '{"a":"\\ud800","b":"\\udc00x"}',
        "{}",
    ],
)
def test_what_comes_in_goes_out(text: str) -> None:
    assert fields(row_of(text.encode())) == f'"key":null,"before":null,"after":{text}'.encode()


def test_escapes_become_what_they_mean() -> None:
    row = row_of(rb'{"\u0061":"\u00e9\ud83d\ude00\/\u0000\u07ff\uffff"}')
    assert row.schema.columns[0].name == "a"
    assert decode(row.body[1:]) == ["\xe9\U0001f600/\0\u07ff\uffff"]


def test_kinds() -> None:
    row = row_of(b'{"s":"1","i":1,"f":1.0,"b":true,"o":{},"l":[1],"n":null}')
    assert [c.logical for c in row.schema.columns] == [
        "text", "int", "float", "bool", "json", "json", "text",
    ]  # fmt: skip
    assert decode(row.body[1:]) == ["1", "1", "1.0", "t", "{}", "[1]", None]
    assert (row.op, row.tx, row.ordinal) == (Op.INSERT, None, 0)
    assert row.schema.names == (("topic", "shop.orders"),)


def test_a_null_has_the_kind_that_came_last() -> None:
    made = decoder("json")
    kinds = []
    for text in ("null", "1", "null", '"x"', "null", "1", "null", "{}", "null"):
        row = row_of(b'{"a":%s}' % text.encode(), made=made)
        kinds.append(row.schema.columns[0].logical)
    assert kinds == ["text", "int", "int", "text", "text", "int", "int", "json", "json"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (b'{"id":7}', b'{"a":1,"id":7}', b'"key":{"id":7},"before":null,"after":{"a":1,"id":7}'),
        (b'{"id":7}', b'{"a":1}', b'"key":{"id":7},"before":null,"after":{"a":1,"id":7}'),
        (b"k 7", b'{"a":1}', b'"key":{"_key":"k 7"},"before":null,"after":{"a":1,"_key":"k 7"}'),
        (b"\xff", b'{"a":1}', b'"key":{"_key":"/w=="},"before":null,"after":{"a":1,"_key":"/w=="}'),
        (b"7", b"{}", b'"key":{"_key":"7"},"before":null,"after":{"_key":"7"}'),
        (b"", b"{}", b'"key":{"_key":""},"before":null,"after":{"_key":""}'),
        (b"{}", b"{}", b'"key":{"_key":"{}"},"before":null,"after":{"_key":"{}"}'),
        (b'{"id":7}', None, b'"key":{"id":7},"before":{"id":7},"after":null'),
        (b"k", None, b'"key":{"_key":"k"},"before":{"_key":"k"},"after":null'),
    ],
)
def test_keys(key: bytes, value: bytes | None, expected: bytes) -> None:
    assert fields(row_of(value, key)) == expected


def test_a_delete_is_one_of_the_last_schema() -> None:
    made = decoder("json")
    inserted = row_of(b'{"a":1,"id":7}', b'{"id":7}', made)
    gone = row_of(None, b'{"id":8}', made)
    assert (gone.op, gone.schema) == (Op.DELETE, inserted.schema)
    assert fields(gone) == b'"key":{"id":8},"before":{"id":8},"after":null'
    other = row_of(None, b'{"id":"8"}', made)
    assert [c.name for c in other.schema.columns] == ["id"]


@pytest.mark.parametrize(
    ("code", "key", "value"),
    [
        ("not_json", None, b""),
        ("not_json", None, b"x"),
        ("not_json", None, b'{"a":1'),
        ("not_json", None, b'{"a":1}x'),
        ("not_json", None, b'{"a":01}'),
        ("not_json", None, b'{"a":1.}'),
        ("not_json", None, b'{"a":NaN}'),
        ("not_json", None, b'{"a":-Infinity}'),
        ("not_json", None, b'{"a":"\n"}'),
        ("not_json", None, b'{"a":"\\x"}'),
        ("not_json", None, b'{"a":"\xff"}'),
        ("not_json", None, b'{"a":1,}'),
        ("not_json", None, b'{"a":[1,]}'),
        ("not_json", None, b"\xef\xbb\xbf{}"),
        ("not_an_object", None, b"[1]"),
        ("not_an_object", None, b"7"),
        ("not_an_object", None, b"null"),
        ("duplicate_member", None, b'{"a":1,"\\u0061":1}'),
        ("duplicate_member", b'{"a":1,"a":1}', b"{}"),
        ("not_unicode", None, b'{"\\ud800":1}'),
        ("too_deep", None, b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}"),
        ("key_differs", b'{"id":7}', b'{"id":8}'),
        ("key_differs", b'{"id":7}', b'{"id":"7"}'),
        ("name_taken", b"7", b'{"_key":7}'),
        ("no_value", None, None),
        ("too_many_columns", None, json.dumps({str(i): 0 for i in range(65_536)}).encode()),
    ],
)
def test_faults(code: str, key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(EnsignError) as caught:
        row_of(value, key)
    assert caught.value.code == f"decode.{code}"


def test_depth_that_is_allowed() -> None:
    deep = b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1)
    assert fields(row_of(b'{"a":%s}' % deep)).endswith(b'"after":{"a":%s}' % deep)


def test_there_is_no_other_decoder() -> None:
    with pytest.raises(EnsignError, match=r"decode\.unknown"):
        decoder("avro")
