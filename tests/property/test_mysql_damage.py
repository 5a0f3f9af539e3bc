"""Events that are cut or flipped anywhere: they are read, or they are damaged, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.mysql.damage import DamagedError, ServerError
from connectors.mysql.events import FORMAT_DESCRIPTION, FormatDescription, format_description
from connectors.mysql.framing import Framer
from connectors.mysql.gtids import GtidPosition, GtidSet
from tests.fixtures.mysql import NAMES, events, framed, is_mariadb, packets
from tests.fixtures.mysql.reading import read


@cache
def recorded() -> list[tuple[bytes, FormatDescription, bool]]:
    """One of each form: events of the same type and size differ too little to count."""
    found = {}
    for name in NAMES:
        description = None
        for event in events(name):
            if event[4] == FORMAT_DESCRIPTION:
                description = format_description(event)
            if description is not None:
                found[event[4], len(event)] = (event, description, is_mariadb(name))
    return list(found.values())


def attempt(event: bytes, description: FormatDescription, mariadb: bool) -> None:
    with suppress(DamagedError):
        read(event, description, mariadb)


def test_every_event_cut_anywhere() -> None:
    for event, description, mariadb in recorded():
        for size in range(len(event)):
            attempt(event[:size], description, mariadb)


def test_every_byte_of_an_event_changed() -> None:
    for event, description, mariadb in recorded():
        for at in range(19, len(event)):
            for byte in (0, 1, 250, 252, 253, 254, 255, event[at] ^ 1, event[at] ^ 0x80):
                attempt(event[:at] + bytes([byte]) + event[at + 1 :], description, mariadb)


@given(st.data())
def test_parts_of_events_put_together(data: st.DataObject) -> None:
    event, description, mariadb = data.draw(st.sampled_from(recorded()))
    other = data.draw(st.sampled_from(recorded()))[0]
    at, behind = data.draw(st.integers(19, len(event))), data.draw(st.integers(0, len(other)))
    middle = data.draw(st.binary(max_size=8))
    attempt(event[:at] + middle + other[behind:], description, mariadb)


def first_events(data: bytes) -> tuple[int, bytes]:
    """Some packets of a recording, and where the second, a format description, ends: it is what
    tells that there are checksums."""
    at = 0
    for _ in range(2):
        at += 4 + int.from_bytes(data[at : at + 3], "little")
    return at, data[:3000]


@given(st.sampled_from(NAMES), st.data())
def test_packets_flipped_and_cut(name: str, data: st.DataObject) -> None:
    described, whole = first_events(packets(name))
    at = data.draw(st.integers(described, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    cut = data.draw(st.integers(0, len(whole)))
    step = data.draw(st.sampled_from([13, 1 << 18]))
    found = []
    with suppress(DamagedError, ServerError):
        # Events that came before the damage are good.
        for event in framed(flipped[:cut], step=step):
            found.append(event)  # noqa: PERF402  # What was found before an exception counts.
    assert found == list(framed(whole))[: len(found)]


@given(st.binary(max_size=200))
@example(b"\xff\xff\xff\1\0")
@example(b"\0\0\0\1")
def test_any_packets(data: bytes) -> None:
    framer = Framer(False)
    framer.buffer()[: len(data)] = data
    framer.filled(len(data))
    try:
        while framer.events():
            pass
    except (DamagedError, ServerError) as error:
        with pytest.raises(type(error)):
            framer.events()


@given(st.text("0123456789abcdef:-,_ \n", max_size=80))
@example("1f836ca3-e87d-11f1-b469-02fc00000001:1-2:a:")
def test_any_text(text: str) -> None:
    for parse in (GtidSet.parse, GtidPosition.parse):
        try:
            found = parse(text)
        except DamagedError:
            continue
        assert parse(str(found)) == found
