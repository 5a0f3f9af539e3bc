"""Sealed frames under every cut and flip, and the vault that opens them."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ensign_core import frame
from ensign_core.broker.events import Event, event_batch
from ensign_core.broker.vault import Vault, unlocked
from ensign_core.broker.writer import Writer
from ensign_core.change import Batch, Column, Op, Run, Schema, Tx
from ensign_core.crypto import FileProvider
from ensign_core.engine import Stored
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError

SCHEMA = Schema("orders", (("table", "orders"),), (Column("id", "int4", "int"),))
BATCH = Batch(
    bytes([Op.INSERT, Op.DELETE]), array("H", [0, 0]), array("I", [9, 18]),
    b"N\0\1t\0\0\0\x011O\0\1t\0\0\0\x012"[:18], [Run(0, 3, Tx("7", "0/1", 5))], [SCHEMA],
)  # fmt: skip


def opened(engine: SqliteEngine, tmp_path: Path) -> Vault:
    return Vault(engine, unlocked(engine, FileProvider(tmp_path / "keys")))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    engine = SqliteEngine(tmp_path / "broker")
    yield opened(engine, tmp_path)
    engine.close()


@pytest.fixture
def stored(vault: Vault) -> Stored:
    Writer(vault).append([("orders", BATCH)])
    (found,) = vault.engine.frames([topic.topic_id for topic in vault.engine.topics()], 0, 1)
    return found


def code_of(vault: Vault, stored: Stored) -> str:
    """The code with which a frame is refused; an exception of another kind fails the test."""
    with pytest.raises(EnsignError) as raised:
        vault.open_frame(stored, "orders")
    assert f"topic orders, offsets 0 to {stored.events - 1}" in raised.value.sentence
    return raised.value.code


def test_opens_as_it_was(vault: Vault, stored: Stored) -> None:
    batch = vault.open_frame(stored, "orders")
    assert (batch.topic, batch.offset, batch.body) == ("orders", 0, BATCH.body)
    assert (batch.runs, batch.schemas, batch.ops) == (BATCH.runs, BATCH.schemas, BATCH.ops)


def test_every_truncation_is_told(vault: Vault, stored: Stored) -> None:
    for size in range(len(stored.frame)):
        code = code_of(vault, replace(stored, frame=stored.frame[:size]))
        assert code == ("frame.damaged" if size < frame.HEADER_BYTES else "frame.tampered")
    assert code_of(vault, replace(stored, frame=stored.frame + b"\0")) == "frame.tampered"


def test_every_flipped_byte_is_told(vault: Vault, stored: Stored) -> None:
    where = {
        **dict.fromkeys(range(4), "frame.damaged"),
        4: "frame.version_unknown",
        **dict.fromkeys(range(8, 24), "frame.damaged"),
        **dict.fromkeys(range(40, 56), "frame.damaged"),
        **dict.fromkeys(range(80, 84), "frame.damaged"),
    }
    for place in range(len(stored.frame)):
        for flip in (1, 0x80):
            data = bytearray(stored.frame)
            data[place] ^= flip
            code = code_of(vault, replace(stored, frame=bytes(data)))
            assert code == where.get(place, "frame.tampered"), place


def test_a_frame_of_another_topic_does_not_pass(vault: Vault, stored: Stored) -> None:
    Writer(vault).append([("lines", BATCH)])
    other = next(t.topic_id for t in vault.engine.topics() if t.name == "lines")
    assert code_of(vault, replace(stored, topic_id=other)) == "frame.damaged"
    assert code_of(vault, replace(stored, events=3)) == "frame.damaged"


def test_a_schema_that_is_gone_is_told(tmp_path: Path, vault: Vault, stored: Stored) -> None:
    class Forgetful(SqliteEngine):
        def schema(self, schema_id: int) -> bytes | None:
            return None

    engine = Forgetful(tmp_path / "broker")
    fresh = opened(engine, tmp_path)
    assert code_of(fresh, stored) == "frame.damaged"
    engine.close()


def test_a_later_version_is_told_as_such() -> None:
    made = frame.Header(b"t" * 16, 0, 0, b"k" * 16, b"s" * 16, 0, 1).encode()
    with pytest.raises(EnsignError) as raised:
        frame.parse(made[:4] + b"\x02" + made[5:])
    assert raised.value.code == "frame.version_unknown"
    assert "version 2" in raised.value.sentence


def test_what_could_not_be_read_again_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = frame.pack(BATCH)
    monkeypatch.setattr(frame, "BODY_BYTES_MAX", len(frame._decompress(packed)) - 1)
    with pytest.raises(EnsignError, match=r"^frame\.too_large"):
        frame.pack(BATCH)
    with pytest.raises(EnsignError, match=r"^frame\.damaged"):
        frame.schema_ids(packed)


def test_threads_pack_at_the_same_time() -> None:
    """A compressor that two threads share crashes the process or garbles what they pack."""
    batches = [event_batch(f"t{i}", [Event(bytes([i]) * 40_000)] * 200) for i in range(4)]
    expected = [frame.pack(batch) for batch in batches]
    garbled: list[int] = []

    def pack(number: int) -> None:
        packed = [frame.pack(batches[number]) for _ in range(30)]
        garbled.extend(number for one in packed if one != expected[number])

    threads = [threading.Thread(target=pack, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert garbled == []
