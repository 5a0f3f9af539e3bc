"""The reader of text results: the protocol around the rows."""

from __future__ import annotations

import pytest

from connectors.mysql import gathered, textrows
from connectors.mysql.damage import DamagedError, MismatchError, ServerError
from connectors.mysql.wire import Type, WireColumn
from ensign_core.rows import Value, decode
from tests.plain.mysql_answers import EOF, OK, answer, packets, text_row

COLUMNS = (WireColumn("id", Type.LONG), WireColumn("data", Type.LONG_BLOB, 4))
ERROR = b"\xff\x15\x04#28000Access denied for user 'secret'"
ALL = 1 << 40


def reader() -> textrows.TextRows:
    return textrows.TextRows(COLUMNS, (0,))


def values(into: gathered.Gathered) -> list[list[Value]]:
    return [decode(body[1:]) for body in into.bodies()]


def read(data: bytes) -> tuple[list[list[Value]], textrows.TextRows]:
    rows, into = reader(), gathered.Gathered()
    rows.feed(data)
    rows.rows(into, ALL)
    return values(into), rows


@pytest.mark.parametrize("deprecated_eof", [False, True])
def test_an_answer_is_read_to_its_end(deprecated_eof: bool) -> None:
    lines = [text_row([b"0007", b"x"]), text_row([None, None])]
    found, rows = read(packets(answer(2, lines, deprecated_eof=deprecated_eof)))
    assert found == [["7", b"x"], [None, None]]
    assert rows.ended
    assert rows.last_key() == (None,)


def test_an_answer_may_have_no_rows() -> None:
    found, rows = read(packets(answer(2, [])))
    assert (found, rows.ended, rows.last_key()) == ([], True, None)


def test_rows_are_given_in_batches() -> None:
    rows, into = reader(), gathered.Gathered()
    rows.feed(packets(answer(2, [text_row([b"%d" % n, b"x" * 100]) for n in range(10)])))
    assert rows.rows(into, 300) == 3
    assert rows.last_key() == (b"2",)
    assert (rows.rows(into, 1), rows.ended) == (1, False)
    assert (rows.rows(into, ALL), rows.ended) == (6, True)
    assert [row[0] for row in values(into)] == [str(n) for n in range(10)]


@pytest.mark.parametrize("size", [0xFFFFFF - 8, 0xFFFFFF, 0xFFFFFF * 2 - 7, 40_000_000])
def test_a_row_of_16_mib_and_more_comes_in_several_packets(size: int) -> None:
    rows, into = reader(), gathered.Gathered()
    data = packets(answer(2, [text_row([b"7", b"x" * size]), text_row([b"8", b""])]))
    for start in range(0, len(data), 1 << 18):
        rows.feed(data[start : start + (1 << 18)])
        rows.rows(into, ALL)
    assert rows.ended
    assert values(into) == [["7", b"x" * size], ["8", b""]]


def test_a_row_that_begins_as_an_end_does_is_a_row() -> None:
    """Its first value's length takes eight bytes."""
    rows = textrows.TextRows(COLUMNS[1:], ())
    into = gathered.Gathered()
    rows.feed(packets(answer(1, [text_row([b"x" * 0x1000000])])))
    assert rows.rows(into, ALL) == 1
    assert rows.ended


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_of_the_server_has_its_number_and_no_text(after: int) -> None:
    """Instead of the answer, and in the midst of its rows."""
    rows, into = reader(), gathered.Gathered()
    payloads = [*answer(2, [text_row([b"1", b"x"])] * 3)[:-1], ERROR] if after else [ERROR]
    rows.feed(packets(payloads))
    with pytest.raises(ServerError) as caught:
        rows.rows(into, ALL)
    assert (caught.value.number, caught.value.sqlstate) == (1045, "28000")
    assert "secret" not in str(caught.value)
    assert len(into) == 0


def test_another_number_of_columns_is_told_apart_from_damage() -> None:
    with pytest.raises(MismatchError):
        read(packets(answer(3, [])))


@pytest.mark.parametrize(
    "data",
    [
        packets([OK[1:]]),
        packets([b"\0\0\0\2\0\0\0"]),
        packets([b"\xfbfile"]),
        packets(answer(2, []), sequence=0),
        packets(answer(2, [])) + b"\x01\x00\x00\x09\x00",
        packets(answer(2, [text_row([b"1"])])),
        packets(answer(2, [text_row([b"1", b"x", b"y"])])),
        packets(answer(2, [b"\x05ab"])),
        packets(answer(2, [b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff"])),
        packets(answer(2, [text_row([b"", b""])])),
        packets([*answer(2, [])[:-1], EOF[:3] + b"\x08\0"]),
        packets([*answer(2, [])[:-1], b"\xfe"]),
    ],
)
def test_damage_is_an_error(data: bytes) -> None:
    with pytest.raises(DamagedError):
        read(data)


def test_numbers_are_as_the_binlog_has_them() -> None:
    columns = [
        (WireColumn("", Type.DOUBLE, 8), b"1.5e0", "1.5"),
        (WireColumn("", Type.DOUBLE, 8), b"-0", "-0"),
        (WireColumn("", Type.DOUBLE, 8), b"1e23", "1e+23"),
        (WireColumn("", Type.DOUBLE, 8), b"100000000000000000000000", "1e+23"),
        (WireColumn("", Type.FLOAT, 4), b"0.10000000149011612", "0.1"),
        (WireColumn("", Type.NEWDECIMAL, 5 | 2 << 8), b"000.50", "0.50"),
        (WireColumn("", Type.LONG, unsigned=True), b"0000000000", "0"),
        (WireColumn("", Type.YEAR), b"0000", "0"),
        (WireColumn("", Type.YEAR), b"05", "2005"),
        (WireColumn("", Type.YEAR), b"70", "1970"),
        (WireColumn("", Type.BIT, 3), b"\x05", "101"),
    ]
    for column, shown, expected in columns:
        rows, into = textrows.TextRows([column], ()), gathered.Gathered()
        rows.feed(packets(answer(1, [text_row([shown])])))
        rows.rows(into, ALL)
        assert values(into) == [[expected]]
    for shown in (b"", b"x", b"1.5x", b"1e999", b"9" * 500):
        rows = textrows.TextRows([WireColumn("", Type.DOUBLE, 8)], ())
        rows.feed(packets(answer(1, [text_row([shown])])))
        with pytest.raises(DamagedError):
            rows.rows(gathered.Gathered(), ALL)
