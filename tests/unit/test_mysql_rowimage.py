"""The row decoder: which images it makes of which events, and the values of each type."""

from __future__ import annotations

import struct

import pytest

from connectors.mysql import floats, gathered, rowimage
from connectors.mysql.damage import DamagedError, MismatchError
from connectors.mysql.wire import Type, WireColumn
from ensign_core.change import image_end
from ensign_core.rows import ABSENT, Value, decode

ID = WireColumn("id", Type.LONG)
NAME = WireColumn("name", Type.VARCHAR, 20, charset="utf8mb4")
NOTE = WireColumn("note", Type.BLOB, 2, charset="utf8mb4")
TABLE = (ID, NAME, NOTE)


def images(body: bytes) -> list[tuple[str, list[Value]]]:
    """Markers and rows of a body."""
    found = []
    while body:
        end = image_end(body, 1)
        found.append((chr(body[0]), decode(body[1:end])))
        body = body[end:]
    return found


def rows(
    columns: tuple[WireColumn, ...], event: str, kind: int = rowimage.WRITE,
    key: tuple[int, ...] = (0,), keep: tuple[int, ...] | None = None,
) -> list[list[tuple[str, list[Value]]]]:  # fmt: skip
    into = gathered.Gathered()
    rowimage.RowDecoder(columns, key, keep).rows(bytes.fromhex(event), 0, kind, into)
    return [images(body) for body in into.bodies()]


def value(column: WireColumn, data: str) -> Value:
    ((image,),) = rows((column,), "01 01 00" + data)
    return image[1][0]


def test_an_insert_has_a_new_image_for_each_row() -> None:
    assert rows(TABLE, "03 07 00 01000000 0161 0100 62  06 02000000") == [
        [("N", ["1", "a", "b"])],
        [("N", ["2", None, None])],
    ]


def test_a_full_update_has_both_images() -> None:
    event = "03 07 07 00 01000000 0161 0100 62  04 01000000 0163"
    assert rows(TABLE, event, rowimage.UPDATE) == [
        [("O", ["1", "a", "b"]), ("N", ["1", "c", None])]
    ]


def test_an_image_of_the_key_only_says_so() -> None:
    assert rows(TABLE, "03 01 00 07000000", rowimage.DELETE) == [[("K", ["7", None, None])]]


def test_an_old_image_without_large_columns_is_full_but_for_them() -> None:
    event = "03 03 00 07000000 0161"
    assert rows(TABLE, event, rowimage.DELETE) == [[("O", ["7", "a", ABSENT])]]


def test_a_table_without_key_has_no_key_only_image() -> None:
    event = "03 02 00 0161"
    assert rows(TABLE, event, rowimage.DELETE, ()) == [[("O", [ABSENT, "a", ABSENT])]]


def test_a_table_that_is_all_key_has_full_images() -> None:
    event = "01 01 00 07000000"
    assert rows((ID,), event, rowimage.DELETE) == [[("O", ["7"])]]


def test_a_new_image_takes_the_key_that_it_lacks_from_the_old_one() -> None:
    event = "03 01 02 00 07000000 00 0161"
    assert rows(TABLE, event, rowimage.UPDATE) == [
        [("K", ["7", None, None]), ("N", ["7", "a", ABSENT])]
    ]


def test_a_row_that_says_nothing_is_one_row() -> None:
    """MySQL's INSERT without values with binlog_row_image=MINIMAL."""
    assert rows((ID, NAME), "02 00", key=()) == [[("N", [ABSENT, ABSENT])]]
    with pytest.raises(DamagedError):
        rows((ID, NAME), "02 00 00", key=())
    with pytest.raises(DamagedError):
        rows((ID, NAME), "02 00", rowimage.DELETE, ())


def test_columns_that_are_not_captured_are_not_in_the_row() -> None:
    event = "03 01 02 00 07000000 00 0161"
    assert rows(TABLE, event, rowimage.UPDATE, keep=(0, 2)) == [
        [("K", ["7", None]), ("N", ["7", ABSENT])]
    ]
    assert rows(TABLE, event, rowimage.UPDATE, keep=()) == [[("K", []), ("N", [])]]


def test_many_columns_have_a_longer_count() -> None:
    tiny = (WireColumn("", Type.TINY),) * 300
    event = "fc 2c01" + "ff" * 37 + "0f" + "00" * 38 + "05" * 300
    assert rows(tiny, event) == [[("N", ["5"] * 300)]]


def test_another_number_of_columns_is_told_apart_from_damage() -> None:
    for event in ("02 03 00 01000000", "04 0f 00", "fc 0301 00"):
        with pytest.raises(MismatchError):
            rows(TABLE, event)
    for event in ("", "03", "fb", "ff 00", "fc 03", "03 07 00 0100"):
        with pytest.raises(DamagedError):
            rows(TABLE, event)


def test_labels_that_were_not_told_are_told_apart_from_damage() -> None:
    for code in (Type.ENUM, Type.SET):
        column = WireColumn("e", Type.STRING, code | 1 << 8, labels=("a", "b"))
        assert value(column, "02") == "b"
        with pytest.raises(MismatchError):
            value(column, "04")


def test_json_as_changes_to_the_old_document() -> None:
    """Written by MySQL 9.7: UPDATE pj SET b = JSON_SET(b, '$.q', 7)."""
    documents = (ID, WireColumn("a", Type.JSON, 4), WireColumn("b", Type.JSON, 4))
    old = "0d000000 00 01000c00 0b000100 05 0100 71"
    diff = "09000000 00 03 242e71 03 05 0700"
    event = f"03 05 05 00 01000000 {old} 01 02 00 01000000 {diff}"
    assert rows(documents, event, rowimage.PARTIAL_UPDATE) == [
        [("O", ["1", ABSENT, '{"q": 1}']), ("N", ["1", ABSENT, '{"q": 7}'])]
    ]
    # Without the old document nobody knows the new one, and it is not unchanged.
    minimal = f"03 01 04 00 01000000 01 02 00 {diff}"
    with pytest.raises(rowimage.NoBaseError):
        rows(documents, minimal, rowimage.PARTIAL_UPDATE)
    for damaged in ("03 01 04 00 01000000 02", "03 05 04 02 01000000 01 02 00" + diff):
        with pytest.raises(DamagedError):
            rows(documents, damaged, rowimage.PARTIAL_UPDATE)


@pytest.mark.parametrize(
    ("column", "data", "shown"),
    [
        (WireColumn("", Type.TINY, unsigned=True), "ff", "255"),
        (WireColumn("", Type.INT24), "000080", "-8388608"),
        (WireColumn("", Type.LONGLONG), "0000000000000080", "-9223372036854775808"),
        (WireColumn("", Type.LONGLONG, unsigned=True), "ff" * 8, "18446744073709551615"),
        (WireColumn("", Type.NEWDECIMAL, 10 | 2 << 8), "7ffffffef5", "-1.10"),
        (WireColumn("", Type.NEWDECIMAL, 4 | 4 << 8), "9388", "0.5000"),
        (WireColumn("", Type.YEAR), "00", "0"),
        (WireColumn("", Type.YEAR), "ff", "2155"),
        (WireColumn("", Type.DATE), "a0be0f", "2015-05-00"),
        (WireColumn("", Type.TIME2, 6), "7fffffffffff", "-00:00:00.000001"),
        (WireColumn("", Type.TIME2, 1), "7ffad9ce", "-00:20:38.5"),
        (WireColumn("", Type.DATETIME2, 0), "8000000000", "0000-00-00 00:00:00"),
        (WireColumn("", Type.TIMESTAMP2, 3), "000000000000", "0000-00-00 00:00:00.000"),
        (WireColumn("", Type.TIMESTAMP2, 3), "ffffffff0000", "2106-02-07 06:28:15.000"),
        (WireColumn("", Type.TIME), "c01dfe", "-12:34:56"),
        (WireColumn("", Type.TIME, 3), "00b15478eb", "-12:34:56.789"),
        (WireColumn("", Type.DATETIME, 4), "0292d4bb393f87", "2015-05-17 01:02:03.4567"),
        (WireColumn("", Type.TIMESTAMP, 6), "5557e88b06f855", "2015-05-17 01:02:03.456789"),
        (WireColumn("", Type.BIT, 5 | 1 << 8), "1001", "1000000000001"),
        (WireColumn("", Type.STRING, Type.STRING | 5 << 8), "0101", b"\x01\0\0\0\0"),
        (WireColumn("", Type.VECTOR, 4), "08000000 0000803f ae47e13d", "[1,0.11]"),
        (WireColumn("", Type.JSON, 4), "00000000", "null"),
        (WireColumn("", Type.GEOMETRY, 4), "02000000 0001", b"\0\1"),
    ],
)
def test_values(column: WireColumn, data: str, shown: Value) -> None:
    assert value(column, data) == shown


@pytest.mark.parametrize(
    ("special", "size", "data", "shown"),
    [
        ("uuid", 16, "0f 123e4567e89b12d3a456426655 4400", "123e4567-e89b-12d3-a456-426655440000"),
        ("inet4", 4, "01 0a", "10.0.0.0"),
        ("inet6", 16, "00", "::"),
        ("inet6", 16, "10" + "00" * 12 + "01020304", "::1.2.3.4"),
        ("inet6", 16, "10 0001 0000 0002 0003 0004 0005 0006 0007", "1::2:3:4:5:6:7"),
        ("inet6", 16, "0e 0001 0002 0003 0004 0005 0006 0007", "1:2:3:4:5:6:7::"),
    ],
)
def test_addresses_of_mariadb(special: str, size: int, data: str, shown: str) -> None:
    """Written by MariaDB, which leaves zero bytes at the end out."""
    column = WireColumn("", Type.STRING, Type.STRING | size << 8, special=special)
    assert value(column, data) == shown
    with pytest.raises(DamagedError):
        value(column, "20" + "00" * 32)


@pytest.mark.parametrize(
    "data",
    [
        "0e00 8a01904b4c4a4e491cc583060300",
        "1400 820190789c4b4c4a4e491cc58306030090d899e9",
        "9101 00" + "61626364" * 100,
    ],
)
def test_compressed_columns_of_mariadb(data: str) -> None:
    """Written by MariaDB 10.11: raw, with zlib's header, and as it is."""
    column = WireColumn("", Type.VARCHAR_COMPRESSED, 501, charset="latin1")
    assert value(column, data) == "abcd" * 100
    assert value(column, "0000") == ""
    binary = WireColumn("", Type.BLOB_COMPRESSED, 2)
    assert value(binary, data) == b"abcd" * 100
    for damaged in ("0100 8a", "0200 9001", "0300 810141", "0e00 8a01914b4c4a4e491cc583060300"):
        with pytest.raises(DamagedError):
            value(column, damaged)


def test_text_of_a_charset_is_utf8() -> None:
    latin1 = WireColumn("", Type.VARCHAR, 20, charset="latin1")
    assert value(latin1, "04 61e48081") == "aä€\x81"
    assert value(WireColumn("", Type.VARCHAR, 20, charset="gbk"), "04 d6d0cec4") == "中文"
    assert value(WireColumn("", Type.VARCHAR, 20, charset="ucs2"), "04 00e420ac") == "ä€"


def test_text_that_is_none_of_its_charset_stays_as_bytes() -> None:
    greek = WireColumn("", Type.VARCHAR, 20, charset="greek")
    assert value(greek, "03 61e1ff") == b"a\xe1\xff"
    assert value(WireColumn("", Type.VARCHAR, 20, charset="gbk"), "02 61ff") == b"a\xff"


def test_what_nobody_knows_is_refused_when_the_table_is_seen() -> None:
    with pytest.raises(LookupError, match="klingon"):
        rowimage.RowDecoder([WireColumn("", Type.VARCHAR, 20, charset="klingon")], ())
    with pytest.raises(LookupError, match="type 20"):
        rowimage.RowDecoder([WireColumn("", Type.TYPED_ARRAY)], ())
    for damaged in (
        WireColumn("", Type.NEWDECIMAL, 66), WireColumn("", Type.NEWDECIMAL, 2 | 3 << 8),
        WireColumn("", Type.TIME2, 7), WireColumn("", Type.BIT, 0), WireColumn("", Type.BLOB, 5),
        WireColumn("", Type.STRING, Type.ENUM | 3 << 8),
    ):  # fmt: skip
        with pytest.raises(DamagedError):
            rowimage.RowDecoder([damaged], ())
    with pytest.raises(IndexError):
        rowimage.RowDecoder([ID], (1,))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.0, "0"), (-0.0, "-0"), (0.1, "0.1"), (1e20, "1e+20"), (1e15, "1000000000000000"),
        (1e16, "1e+16"), (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
        (0.0001, "0.0001"), (0.00001, "1e-05"), (9007199254740993.0, "9007199254740992"),
        (1e23, "1e+23"), (float("nan"), "NaN"), (float("-inf"), "-Infinity"),
    ],
)  # fmt: skip
def test_doubles_are_as_short_as_can_be(number: float, shown: str) -> None:
    assert floats.double_text(number) == shown
    assert value(WireColumn("", Type.DOUBLE, 8), struct.pack("<d", number).hex()) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.1, "0.1"), (3.3, "3.3"), (1e-45, "1e-45"), (3.4028235e38, "3.4028235e+38"),
        (16777216.0, "16777216"), (123456789.0, "123456790"), (-1.17549435e-38, "-1.1754944e-38"),
        (2.0**-96, "1.2621775e-29"), (float("inf"), "Infinity"),
    ],
)  # fmt: skip
def test_floats_are_as_short_as_can_be(number: float, shown: str) -> None:
    assert floats.float_text(number) == shown
    assert value(WireColumn("", Type.FLOAT, 4), struct.pack("<f", number).hex()) == shown


def test_events_are_gathered_and_given_back() -> None:
    into = gathered.Gathered()
    for body in (b"a", b"", b"bcd"):
        into.append(body)
    assert (len(into), into.size) == (3, 4)
    assert into.bodies() == [b"a", b"", b"bcd"]
    assert into.bodies(2) == [b"bcd"]
    assert into.body(1) == b""
    into.cut(2)
    into.append(b"e" * 5000)
    body, ends = into.take()
    assert (body, list(ends), ends.typecode) == (b"a" + b"e" * 5000, [1, 1, 5001], "I")
    assert (len(into), into.size, into.bodies()) == (0, 0, [])
    assert into.take()[0] == b""
    for index in (-1, 0):
        with pytest.raises(IndexError):
            into.body(index)
    with pytest.raises(IndexError):
        into.cut(1)
