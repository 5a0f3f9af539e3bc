"""What compaction takes out of topics and what it leaves, by example."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from ensign_core.broker import (
    Assembler,
    Broker,
    Chunked,
    Event,
    received,
)
from ensign_core.broker.keeping import Keeping
from ensign_core.change import BatchBuilder, Op, Tx
from ensign_core.frame import parse
from ensign_core.rows import ABSENT, encode
from tests.folding import Reader, changes
from tests.keeping import DAY_S, SCHEMA, counted, offsets, policy, put, update


def test_a_pass_takes_what_is_superseded_and_leaves_offsets(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"1", b"a"), Event(b"2", b"b"), Event(b"3"), Event(b"4", b"a")])
    broker.publish("t", [Event(b"5", b"b"), Event(b"6", b"b")])
    broker.publish("t", [Event(b"7", b"b")])
    (kept,) = broker.keep()
    with broker.reader(["t"]) as reader:
        batches = reader.fetch()
    assert [(batch.offset, len(batch)) for batch in batches] == [(0, 4), (6, 1)]
    found = {r.offset: r.event.data for b in batches for r in received(b) if r.event}
    assert found == {2: b"3", 3: b"4", 6: b"7"}
    assert (kept.compacted, counted(broker), broker.keep()) == (4, True, [])
    assert [broker.lookup().event("t", offset) is None for offset in range(7)] == [
        offset not in found for offset in range(7)
    ]


def test_deletes_stay_for_a_while_and_until_groups_have_read_them(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True, tombstone_s=DAY_S))
    for days_ago, body, op in ((3, b"N" + encode(["1", "a"]), Op.INSERT),
                               (2, b"K" + encode(["1", None]), Op.DELETE)):  # fmt: skip
        builder = BatchBuilder().begin(
            Tx("1", "0/1", time.time_ns() // 1000 - int(days_ago * DAY_S * 1e6))
        )
        builder.add(op, SCHEMA, body)
        broker.writer().append([("t", builder.take(None))])
    broker.commit("g", {"t": 1})
    broker.keep()
    assert offsets(broker) == [1]
    broker.commit("g", {"t": 2})
    broker.keep()
    assert (offsets(broker), counted(broker)) == ([], True)
    with broker.reader(["t"], group="g") as reader:
        assert (reader.fetch(), reader.trimmed, reader.offsets) == ([], 0, {"t": 2})


def test_values_do_not_leave_their_data_key(broker: Broker) -> None:
    """What an update left out lies under an older key, and stays there: with it the value goes."""
    broker.create_topic("t", policy(compact=True))
    update(broker, "secret")
    update(broker, ABSENT)
    broker.keys.rotate("t")
    update(broker, ABSENT)
    update(broker, ABSENT)
    broker.keep()
    assert offsets(broker) == [1, 3]
    (first, last) = changes(broker, "t")
    assert (b"secret" in first.body, b"secret" in last.body) == (True, False)
    assert Reader().take([first, last]).rows["public.orders"] == {
        ("1",): {"id": "1", "note": "secret"}
    }
    update(broker, "open")
    broker.keep()
    assert offsets(broker) == [4]


def test_what_a_revoked_key_sealed_is_passed_over(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"1", b"a"), Event(b"2", b"b")])
    (old,) = broker.topic("t").key_ids
    broker.keys.rotate("t")
    broker.publish("t", [Event(b"3", b"b"), Event(b"4", b"b")])
    broker.keys.revoke(old)
    broker.keep()
    assert broker.topic("t").events == 3
    with broker.reader(["t"], skip_revoked=True) as reader:
        found = [r.offset for batch in reader.fetch() for r in received(batch)]
    assert (found, reader.skipped) == ([3], 2)
    assert broker.verify().problems == []


def test_rewritten_frames_are_sealed_by_a_session_of_their_own(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"1", b"a"), Event(b"2", b"b")])
    (topic,) = broker._engine.topics(["t"])

    def header() -> tuple[bytes, bytes]:
        (stored,) = broker._engine.frames([topic.topic_id], 0, 0)
        found = parse(stored.frame)[0]
        return found.key_id, found.session

    key, session = header()
    broker.publish("t", [Event(b"3", b"a")])
    broker.keep()
    assert header()[0] == key
    assert header()[1] != session
    assert broker.verify().problems == []


def test_parts_of_large_events_go_with_their_claim(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    large = Chunked(chunk_bytes=1000)
    first, second = b"1" * 3500, b"2" * 2500
    broker.publish("t", [Event(first, b"model")], large=large)
    broker.publish("t", [Event(second, b"model")], large=large)
    broker.publish("t", [Event(first, b"other")], large=large)
    assert broker.topic("t").events == 5 + 4 + 5
    broker.keep()
    assert broker.topic("t").events == 4 + 5
    assembler: Assembler = broker.assembler()
    with broker.reader(["t"]) as reader:
        whole = [assembler.whole(found) for batch in reader.fetch() for found in received(batch)]
    assert [found.event.data for found in whole if found and found.event] == [second, first]


def test_a_topic_is_compacted_again_when_half_of_it_is_new(broker: Broker) -> None:
    keeping = Keeping(broker._vault, broker._vault.policy)
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"", b"%d" % number) for number in range(10)])
    due = [bool(keeping._keep(None, lambda _: False))]
    for _ in range(10):
        broker.publish("t", [Event(b"", b"1")])
        due.append(bool(keeping._keep(None, lambda _: False)))
    assert due.count(True) == 1
    assert due.index(True) >= 9


KILLED = """
import contextlib, os, signal, sys
from ensign_core.broker import Broker
from ensign_core.engine.database import Database

left = int(sys.argv[2])
real = Database.transaction

@contextlib.contextmanager
def transaction(database):
    global left
    with real(database) as db:
        yield db
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Broker.open(sys.argv[1]) as broker:
    Database.transaction = transaction
    broker.keep()
"""


def test_a_kill_in_any_transaction_leaves_the_same_state(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    with Broker.open(folder) as broker:
        broker.create_topic("t", policy(compact=True, tombstone_s=0))
        broker.create_topic("u", policy(age_s=1))
        for number in range(3):
            put(broker, "a", topic="u", days_ago=1)
            update(broker, f"old {number}", str(number))
            update(broker, ABSENT, str(number))
            update(broker, ABSENT, "0")
        before = Reader().take(changes(broker, "t")).state
    killed = 0
    for nth in range(1, 100):
        command = [sys.executable, "-c", KILLED, str(folder), str(1 + nth % 3)]
        code = subprocess.run(command, timeout=60).returncode
        with Broker.open(folder) as broker:
            assert Reader().take(changes(broker, "t")).state == before
            assert (counted(broker), counted(broker, "u")) == (True, True)
            assert broker.verify().problems == []
            if code == 0:
                assert (len(offsets(broker)), offsets(broker, "u")) == (3, [])
                break
        assert code == -signal.SIGKILL
        killed += 1
    assert killed > 3
