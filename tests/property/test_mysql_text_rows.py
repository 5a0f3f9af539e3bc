"""Rows of text results against the same rows of the binlog: a snapshot's row is, byte for byte, the
stream's."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mysql import gathered, rowimage, textrows
from connectors.mysql.damage import DamagedError, MismatchError, ServerError
from ensign_core.rows import check_body, split
from tests.plain.mysql_answers import answer, packets, shown, text_row
from tests.plain.mysql_rows import Reader, raw
from tests.property.mysql_images import EVERY, Images, images

SEEDS = st.integers(0, 2**64)
BEFORE = b"what was there before"


def streamed(found: Images) -> list[bytes]:
    into = gathered.Gathered()
    rowimage.RowDecoder(found.columns, found.key).rows(found.event, 0, found.kind, into)
    return into.bodies()


def result(rng: Random, found: Images) -> list[bytes]:
    """The payloads of the rows as a query gives them."""
    reader = Reader(found.event[1 + (len(found.columns) + 7) // 8 :])
    rows = []
    for _ in range(found.rows):
        values = raw(found.columns, reader, range(len(found.columns))).values()
        rows.append(text_row([
            None if data is None else shown(rng, column, data)
            for column, data in zip(found.columns, values, strict=True)
        ]))  # fmt: skip
    return rows


def read(rng: Random, found: Images, data: bytes, into: gathered.Gathered) -> textrows.TextRows:
    """Feed ``data`` in pieces and read what there is."""
    rows = textrows.TextRows(found.columns, found.key)
    while data:
        size = rng.choice((1, 2, 5, rng.randrange(1, 5000)))
        rows.feed(memoryview(data[:size]))
        data = data[size:]
        while not rows.ended and rows.rows(into, rng.choice((1, 100, 1 << 20))):
            pass
    return rows


@given(SEEDS, st.booleans())
@settings(deadline=None, max_examples=200)
def test_rows_are_those_of_the_binlog(seed: int, deprecated_eof: bool) -> None:
    rng = Random(seed)
    found = images(rng, EVERY, rng.randrange(9), whole=True)
    payloads = answer(len(found.columns), result(rng, found), deprecated_eof=deprecated_eof)
    into = gathered.Gathered()
    rows = read(rng, found, packets(payloads), into)
    assert rows.ended
    bodies = into.bodies()
    assert bodies == streamed(found)
    if bodies:
        kinds, values = split(bodies[-1][1:])
        last = tuple(None if kinds[i] == ord("n") else values[i] for i in found.key)
        assert rows.last_key() == last
    else:
        assert rows.last_key() is None


@given(SEEDS)
@settings(deadline=None, max_examples=400)
def test_damage_is_an_error_or_other_rows(seed: int) -> None:
    rng = Random(seed)
    found = images(rng, EVERY, rng.randrange(4), whole=True)
    data = bytearray(packets(answer(len(found.columns), result(rng, found))))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[max(at, 1) :]
            case _:
                data[at] = rng.choice((0, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF))
    into = gathered.Gathered()
    into.append(BEFORE)
    with suppress(DamagedError, MismatchError, ServerError):
        read(rng, found, bytes(data), into)
    assert into.body(0) == BEFORE
    for body in into.bodies(1):
        check_body(body)
