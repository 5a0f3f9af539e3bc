"""GTID sets and positions, and the commands that send them."""

from __future__ import annotations

from uuid import UUID

import pytest

from connectors.mysql import commands
from connectors.mysql.damage import DamagedError
from connectors.mysql.gtids import GtidPosition, GtidSet
from tests.fixtures.mysql import events
from tests.fixtures.mysql.reading import said

A = "1f836ca3-e87d-11f1-b469-02fc00000001"
B = "8a94f357-aab4-11df-86ab-c80aa9429562"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        (f"{A}:1", f"{A}:1"),
        (f" {A.upper()}:1-5 ,\n{B}:7 ", f"{A}:1-5,{B}:7"),
        (f"{B}:7,{A}:3:1-2:9", f"{A}:1-3:9,{B}:7"),
        (f"{A}:1-5,{A}:6-8", f"{A}:1-8"),
        (f"{A.replace('-', '')}:5-1:4", f"{A}:4"),
        (f"{A}:Tag:1:2:_b:7:5:tag:3", f"{A}:_b:5:7:tag:1-3"),
        (f"{A}:1-3:z:4:a:5", f"{A}:1-3:a:5:z:4"),
        (f"{A}:z:4,{A}:1", f"{A}:1:z:4"),
        (f"{A}:9223372036854775806", f"{A}:9223372036854775806"),
    ],
)
def test_texts_of_sets(text: str, canonical: str) -> None:
    assert str(GtidSet.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        A, f"{A}:", f"{A}:0", f"{A}:1-", f"{A}:-1", f"{A}:9223372036854775807", f"{A}:1,x",
        f"{A[:-1]}:1", f"{A}x:1", f"{A}:1-9223372036854775807", f"{A}:{'a' * 33}:1", f"{A}:1b:1",
        f"{A}:é:1", "0-1-5",
    ],
)  # fmt: skip
def test_texts_that_are_no_sets(text: str) -> None:
    with pytest.raises(DamagedError):
        GtidSet.parse(text)


def test_adding_in_order_and_out_of_it() -> None:
    found = GtidSet()
    assert not found
    for number in (1, 2, 3, 7, 5, 6, 6):
        found.add(A, "", number)
    found.add(A, "tag", 9)
    assert str(found) == f"{A}:1-3:5-7:tag:9"
    assert [found.has(A, "", n) for n in (0, 1, 3, 4, 5, 7, 8)] == [0, 1, 1, 0, 1, 1, 0]
    assert not found.has(B, "", 1)
    with pytest.raises(DamagedError):
        found.add(A, "", 0)


def test_containing_and_taking_away() -> None:
    whole = GtidSet.parse(f"{A}:1-10:tag:1-5,{B}:3")
    assert whole.contains(GtidSet.parse(f"{A}:2-4:9:tag:5"))
    assert whole.contains(GtidSet())
    assert not whole.contains(GtidSet.parse(f"{A}:9-11"))
    assert not whole.contains(GtidSet.parse(f"{B}:tag:3"))
    left = whole.minus(GtidSet.parse(f"{A}:1-3:5:10:tag:1-9,{B}:1-2"))
    assert str(left) == f"{A}:4:6-9,{B}:3"
    assert str(whole.minus(whole)) == ""
    both = left.copy()
    both.add_all(GtidSet.parse(f"{B}:4:6"))
    assert (str(both), str(left)) == (f"{A}:4:6-9,{B}:3-4:6", f"{A}:4:6-9,{B}:3")


def test_bytes_of_a_set() -> None:
    """By hand from ``Gtid_set::encode`` (MySQL's sql/rpl_gtid_set.cc)."""
    number = (1).to_bytes(8, "little")
    bounds = (3).to_bytes(8, "little") + (6).to_bytes(8, "little")
    plain = GtidSet.parse(f"{A}:3-5")
    assert plain.encode() == number + UUID(A).bytes + number + bounds
    tagged = GtidSet.parse(f"{A}:3-5,{B}:ab:3-5")
    assert tagged.encode() == (
        bytes([1, 2, 0, 0, 0, 0, 0, 1])
        + (UUID(A).bytes + b"\0" + number + bounds)
        + (UUID(B).bytes + b"\4ab" + number + bounds)
    )
    assert GtidSet.decode(plain.encode()) == plain
    assert GtidSet.decode(tagged.encode()) == tagged


def test_sets_of_a_server_are_written_as_it_writes_them() -> None:
    recorded = [event[19:] for event in events("mysql-9") if event[4] == 35]
    found = said("mysql-9", 35)
    assert [each.encode() for each in found if isinstance(each, GtidSet)] == recorded
    assert len(recorded) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1" + bytes(7),
        GtidSet.parse(f"{A}:3-5").encode()[:-1],
        GtidSet.parse(f"{A}:3-5").encode() + b"\0",
        GtidSet.parse(f"{A}:3-5").encode()[:-16] + bytes(16),
        GtidSet.parse(f"{A}:1:3").encode()[:-32] + (b"\1" + bytes(7) + b"\3" + bytes(7)) * 2,
        GtidSet.parse(f"{A}:ab:1").encode().replace(b"\4ab", b"\4AB"),
        GtidSet.parse(f"{A}:ab:1").encode().replace(b"\4ab", b"\5ab"),
        b"\xff" * 24,
    ],
)
def test_bytes_that_are_no_set(data: bytes) -> None:
    with pytest.raises(DamagedError):
        GtidSet.decode(data)


def test_positions() -> None:
    found = GtidPosition.parse(" 1-2-5,\n0-1-100 ")
    assert str(found) == "0-1-100,1-2-5"
    found.advance(0, 7, 101)
    found.advance(4, 1, 1)
    assert str(found) == "0-7-101,1-2-5,4-1-1"
    assert found.domains()[0] == (7, 101)
    assert found.contains(GtidPosition.parse("0-1-100,4-9-1"))
    assert not found.contains(GtidPosition.parse("0-1-100,5-1-1"))
    assert not found.contains(GtidPosition.parse("0-7-102"))
    assert not GtidPosition.parse("")
    copy = found.copy()
    copy.advance(0, 7, 102)
    assert copy != found
    assert GtidPosition.parse(str(found)) == found


@pytest.mark.parametrize(
    "text", ["1", "0-1", "0-1-", "0-1-2,0-1-3", f"{1 << 32}-1-1", f"0-1-{1 << 64}", "0-1-2;1-1-1"]
)
def test_texts_that_are_no_positions(text: str) -> None:
    with pytest.raises(DamagedError):
        GtidPosition.parse(text)


def test_commands() -> None:
    """By hand from the protocol's pages of the same names."""
    assert commands.register(0x0403_0201, "me", 3306) == (
        b"\x15\1\2\3\4\2me\0\0\xea\x0c" + bytes(8)
    )
    assert commands.dump(7, "binlog.000002", 4, commands.NON_BLOCKING) == (
        b"\x12\4\0\0\0\1\0\7\0\0\0binlog.000002"
    )
    had = GtidSet.parse(f"{A}:1-3")
    encoded = had.encode()
    assert commands.dump_gtid(7, had, commands.HEARTBEATS_V2) == (
        b"\x1e\2\0\7\0\0\0" + bytes(4) + b"\4" + bytes(7) + bytes([len(encoded), 0, 0, 0]) + encoded
    )
    assert commands.packet(b"\x0e") == b"\1\0\0\0\x0e"
    with pytest.raises(ValueError, match="4 GiB"):
        commands.dump(7, "binlog.000002", 1 << 32)
    with pytest.raises(ValueError, match="16 MB"):
        commands.packet(bytes(0xFFFFFF))


def test_settings() -> None:
    uuid = UUID(A)
    found = commands.settings(False, heartbeat_s=0.5, uuid=uuid)
    assert found[-1] == f"SET @replica_uuid = '{A}', @slave_uuid = '{A}'"
    assert "500000000" in found[1]
    found = commands.settings(True, heartbeat_s=0.5, uuid=uuid)
    assert not any("connect_state" in statement for statement in found)
    position = GtidPosition.parse("0-1-100,1-2-5")
    found = commands.settings(True, heartbeat_s=0.5, uuid=uuid, had=position)
    assert "SET @slave_connect_state = '0-1-100,1-2-5'" in found
