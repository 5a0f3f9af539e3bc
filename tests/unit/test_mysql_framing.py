"""Packets of a binlog dump to events: whatever their sizes, and whatever is wrong with them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable

import pytest

from connectors.mysql.damage import DamagedError, ServerError
from connectors.mysql.events import FORMAT_DESCRIPTION, ROTATE, XID
from connectors.mysql.framing import Framer
from tests.fixtures.mysql import NAMES, events, framed, packets
from tests.plain import binlog

MYSQL_8 = b"8.0.36"
CRC32 = binlog.description(MYSQL_8, binlog.LENGTHS_8_0, 1)
OFF = binlog.description(MYSQL_8, binlog.LENGTHS_8_0, 0)


def received(*payloads: bytes, checksums: bool = True) -> tuple[Framer, list[bytes]]:
    """A framer that received these payloads whole, and the events that it then has."""
    framer = Framer(checksums)
    return framer, list(fed(framer, binlog.stream(*payloads)))


def fed(framer: Framer, data: bytes) -> Iterable[bytes]:
    left = memoryview(data)
    while left:
        room = framer.buffer()
        part, left = left[: len(room)], left[len(room) :]
        room[: len(part)] = part
        framer.filled(len(part))
        while found := framer.events():
            yield from found


def xid(size: int, *, checksum: bool = True) -> bytes:
    """An event that has ``size`` bytes without its checksum; its body is of no form."""
    return binlog.event(XID, bytes(size - 19), checksum=checksum)


@pytest.mark.parametrize("name", NAMES)
def test_recordings_come_out_the_same_however_they_were_received(name: str) -> None:
    whole = events(name)
    assert whole
    assert [list(framed(packets(name), step=step)) for step in (1, 7, 1000)] == [whole] * 3
    assert list(framed(packets(name), size_max=1)) == whole


def test_no_more_than_asked_for() -> None:
    framer = Framer(True)
    data = binlog.stream(b"\0" + CRC32, *[b"\0" + xid(100)] * 10)
    framer.buffer()[: len(data)] = data
    framer.filled(len(data))
    assert [len(framer.events(250)) for _ in range(6)] == [3, 3, 3, 2, 0, 0]


@pytest.mark.parametrize("around", [1 << 18, binlog.PACKET_MAX])
def test_sizes_around_the_limits_of_packets(around: int) -> None:
    # A packet holds a byte and a checksum besides.
    sizes = [around - 5 + extra for extra in (-1, 0, 1, 300)]
    found = received(*(b"\0" + event for event in (CRC32, *map(xid, sizes), xid(30))))[1]
    assert [len(event) for event in found[1:]] == [*sizes, 30]
    assert found[1:] == [xid(size)[:-4] for size in (*sizes, 30)]


def test_an_event_of_three_packets() -> None:
    event = xid(2 * binlog.PACKET_MAX + 100)
    assert received(b"\0" + CRC32, b"\0" + event)[1][1] == event[:-4]


def test_a_large_event_among_small_ones_in_small_steps() -> None:
    random.seed(7)
    sizes = [20, 300_000, 19, 1 << 18, 400_000, 25]
    data = binlog.stream(*(b"\0" + event for event in (CRC32, *map(xid, sizes))))
    framer = Framer(True)
    found: list[bytes] = []
    while data:
        step = random.randint(1, 50_000)
        found += fed(framer, data[:step])
        data = data[step:]
    assert [len(event) for event in found[1:]] == sizes


def test_memory_stays_bounded_by_what_came() -> None:
    """A packet that only says that it is large."""
    framer = Framer(True)
    tracemalloc.start()
    try:
        head = b"\xff\xff\xff\x01\0"
        assert list(fed(framer, head + bytes(1000))) == []
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("size", "why"), [(1 << 31, "more than 1 GiB"), (binlog.PACKET_MAX + 5, "as long as it says")]
)
def test_a_further_packet_of_an_event_that_is_too_long(size: int, why: str) -> None:
    event = bytes(9) + size.to_bytes(4, "little") + bytes(binlog.PACKET_MAX - 14)
    with pytest.raises(DamagedError, match=why):
        list(fed(Framer(False), b"\xff\xff\xff\1\0" + event + b"\x10\0\0\2"))


def test_numbers_go_round() -> None:
    found = received(b"\0" + CRC32, *[b"\0" + xid(20)] * 600)[1]
    assert len(found) == 601


def test_the_end_of_the_log() -> None:
    framer, found = received(b"\0" + CRC32, binlog.EOF)
    assert framer.ended
    assert len(found) == 1
    assert framer.events() == []


def test_what_the_server_refuses() -> None:
    framer = Framer(True)
    data = binlog.stream(b"\0" + CRC32, binlog.ERR)
    framer.buffer()[: len(data)] = data
    framer.filled(len(data))
    # What came before it is given out first.
    assert len(framer.events()) == 1
    for _ in range(2):
        with pytest.raises(ServerError) as raised:
            framer.events()
    assert (raised.value.number, raised.value.sqlstate) == (1236, "HY000")
    assert "text" not in str(raised.value)


def rotation(*, checksum: bool) -> bytes:
    return b"\0" + binlog.event(ROTATE, bytes(8) + b"binlog.000001", checksum=checksum, flags=0x20)


@pytest.mark.parametrize("agreed", [True, False])
def test_before_the_format_description_what_was_agreed_on_counts(agreed: bool) -> None:
    framer, found = received(rotation(checksum=agreed), b"\0" + OFF, checksums=agreed)
    assert found[0].endswith(b"binlog.000001")
    assert not framer.checksums


def test_a_change_of_checksums_is_followed() -> None:
    _, found = received(
        b"\0" + CRC32,
        b"\0" + xid(27),
        rotation(checksum=True),
        b"\0" + OFF,
        b"\0" + xid(27, checksum=False),
        rotation(checksum=False),
        b"\0" + CRC32,
        b"\0" + xid(27),
    )
    assert [len(event) for event in found if event[4] == XID] == [27] * 3
    assert [event[-1] for event in found if event[4] == FORMAT_DESCRIPTION] == [1, 0, 1]


def test_servers_without_checksums() -> None:
    old = binlog.description(b"5.5.62-log", binlog.LENGTHS_5_5, None)
    framer, found = received(b"\0" + old, b"\0" + xid(27, checksum=False), checksums=False)
    assert found == [old, xid(27, checksum=False)]
    assert not framer.checksums


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([b"\0" + flipped(CRC32, 30)], "checksum is wrong"),
        ([b"\0" + CRC32, b"\0" + flipped(xid(300), 40)], "checksum is wrong"),
        ([b"\0" + CRC32, b"\0" + flipped(xid(300_000), 40)], "checksum is wrong"),
        ([b"\0" + CRC32, b"\0" + flipped(xid(300), 9)], "as long as it says"),
        ([b"\0" + CRC32, b"\0" + flipped(xid(300_000), 9)], "as long as it says"),
        ([b"\0" + CRC32, b"\0" + bytes(10)], "as long as it says"),
        ([b"\0" + flipped(CRC32, 9)], "as long as it says"),
        ([b"\0" + binlog.event(15, bytes(40), checksum=True)], "as long as it says"),
        ([b"\0" + binlog.event(15, bytes(300_000), checksum=True)], "of this size"),
        ([b"\0" + binlog.description(MYSQL_8, binlog.LENGTHS_8_0, 2)], "unknown algorithm"),
        ([b""], "empty packet"),
        ([b"\1" + xid(30)], "unknown kind"),
        ([b"\xfe" + bytes(20)], "unknown kind"),
        ([b"\xff\1"], "unknown kind"),
        ([b"\1" + bytes(300_000)], "without an event"),
    ],
)
def test_what_no_server_sends(payloads: list[bytes], why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        received(*payloads)


@pytest.mark.parametrize("size", [20, binlog.PACKET_MAX + 20])
def test_a_lost_packet(size: int) -> None:
    data = binlog.packets(b"\0" + CRC32, 1) + binlog.packets(b"\0" + xid(size), 3)
    with pytest.raises(DamagedError, match="out of sequence"):
        list(fed(Framer(True), data))
    first = binlog.packets(b"\0" + xid(binlog.PACKET_MAX + 20), 1)
    at = 4 + binlog.PACKET_MAX + 3
    with pytest.raises(DamagedError, match="out of sequence"):
        list(fed(Framer(True), first[:at] + b"\7" + first[at + 1 :]))


def test_misuse() -> None:
    framer = Framer(False)
    with pytest.raises(ValueError, match="more than there was room for"):
        framer.filled(len(framer.buffer()) + 1)
    framer.filled(len(framer.buffer()))
    with pytest.raises(ValueError, match="events to take first"):
        framer.buffer()
