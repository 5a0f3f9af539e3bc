"""The compiled row decoder against the plain one: random rows of every type, whole and damaged."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.mysql import gathered, rowimage
from connectors.mysql.damage import DamagedError, MismatchError
from ensign_core.rows import check_body
from tests.oracle.mysql import compare
from tests.plain.mysql_rows import PlainDecoder
from tests.plain.mysql_values import PlainDamageError, PlainMismatchError
from tests.property.mysql_images import EVERY, SHARED, Images, images

SEEDS = st.integers(0, 2**64)
BEFORE = b"what was there before"


def drawn(seed: int, rows_max: int = 12) -> tuple[Random, Images, list[int] | None]:
    """A random table's event, and which columns are captured."""
    rng = Random(seed)
    found = images(rng, EVERY, rng.randrange(rows_max))
    count = len(found.columns)
    keep = None if rng.random() < 0.7 else rng.sample(range(count), rng.randrange(count + 1))
    return rng, found, keep


def compiled(found: Images, event: bytes, keep: list[int] | None) -> list[bytes] | None:
    """The bodies of an event's rows; None for an error, which leaves all as it was."""
    into = gathered.Gathered()
    into.append(BEFORE)
    decoder = rowimage.RowDecoder(found.columns, found.key, keep)
    try:
        count = decoder.rows(b"head" + event, 4, found.kind, into)
    except (DamagedError, MismatchError):
        assert (len(into), into.size) == (1, len(BEFORE))
        assert into.bodies() == [BEFORE]
        return None
    assert count == len(into) - 1
    assert into.size == len(BEFORE) + sum(map(len, into.bodies(1)))
    for body in into.bodies(1):
        check_body(body)
    return into.bodies(1)


def plain(found: Images, event: bytes, keep: list[int] | None) -> list[bytes] | None:
    try:
        return PlainDecoder(found.columns, found.key, keep).bodies(event, found.kind)
    except (PlainDamageError, PlainMismatchError):
        return None


@given(SEEDS)
@settings(deadline=None, max_examples=300)
def test_rows_are_those_of_the_plain_decoder(seed: int) -> None:
    _, found, keep = drawn(seed)
    bodies = compiled(found, found.event, keep)
    assert bodies is not None
    assert bodies == plain(found, found.event, keep)


@given(SEEDS)
@settings(deadline=None, max_examples=600)
@example(3)
def test_damage_is_an_error_or_what_the_plain_decoder_reads(seed: int) -> None:
    rng, found, keep = drawn(seed, 6)
    event = bytearray(found.event)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(event))
        match rng.randrange(4):
            case 0:
                event[at] ^= 1 << rng.randrange(8)
            case 1:
                event[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del event[max(at, 1) :]
            case _:
                event[at:at] = rng.randbytes(rng.randrange(4))
    assert compiled(found, bytes(event), keep) == plain(found, bytes(event), keep)


@given(st.binary(max_size=60), SEEDS)
@settings(deadline=None)
def test_any_bytes_are_an_error_or_rows(data: bytes, seed: int) -> None:
    _, found, keep = drawn(seed, 1)
    event = bytes((len(found.columns),)) + data
    assert compiled(found, event, keep) == plain(found, event, keep)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_values_are_those_of_mysql_replication() -> None:
    """A few of what ``python -m tests.oracle mysql`` compares."""
    rng = Random(20261125)
    for _ in range(60):
        compare(images(rng, SHARED, 15))
