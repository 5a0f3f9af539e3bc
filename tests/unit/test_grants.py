"""Grants on topics that the project's key opens: enforced by the broker, on readers that say who
they are."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import apsw
import pytest

from ensign_core.broker import Broker
from ensign_core.errors import EnsignError
from tests.sealing import CLIENT, Readers, drained, events, refused


def read(broker: Broker, as_reader: str | None, topic: str = "t") -> list[str]:
    with broker.reader([topic], as_reader=as_reader) as reader:
        return drained(reader.fetch)


def test_a_topic_without_grants_is_open(broker: Broker) -> None:
    broker.publish("t", events(1))
    assert read(broker, "alice") == ["1"]
    assert broker.grants.list("t") == []


def test_a_topic_with_grants_is_for_those_that_have_one(broker: Broker) -> None:
    broker.publish("t", events(1, 2))
    broker.publish("u", events(3))
    broker.grants.add("t", "alice")
    broker.grants.add("t", "alice")
    assert read(broker, "alice") == read(broker, None) == ["1", "2"]
    error = refused(broker.reader, ["u", "t"], as_reader="bob")
    assert (error.code, "offsets 0 to 1" in error.sentence) == ("topic.not_granted", True)
    assert read(broker, "bob", "u") == ["3"]
    lookup = broker.lookup("bob")
    assert lookup.event("u", 0) is not None
    assert refused(lookup.event, "t", 0).code == "topic.not_granted"
    assert broker.lookup("alice").event("t", 1) is not None
    (grant,) = broker.grants.list("t")
    assert (grant.topic, grant.reader, grant.public_key) == ("t", "alice", None)


def test_the_last_grant_that_is_removed_does_not_open_the_topic(broker: Broker) -> None:
    broker.publish("t", events(1))
    broker.grants.add("t", "alice")
    broker.grants.remove("t", "alice")
    assert broker.grants.list("t") == []
    for name in ("alice", "bob"):
        assert refused(broker.reader, ["t"], as_reader=name).code == "topic.not_granted"
    assert refused(broker.grants.remove, "t", "alice").code == "grants.unknown"
    assert read(broker, None) == ["1"]
    broker.grants.add("t", "alice")
    assert read(broker, "alice") == ["1"]


def test_a_removal_ends_open_readers_of_other_processes(broker: Broker, tmp_path: Path) -> None:
    broker.publish("t", events(1))
    broker.grants.add("t", "alice")
    ended: list[tuple[str, float]] = []
    started = threading.Event()

    def follow() -> None:
        with Broker.open(tmp_path / "b") as other, other.reader(["t"], as_reader="alice") as reader:
            assert drained(reader.fetch) == ["1"]
            started.set()
            try:
                reader.fetch(60.0)
            except EnsignError as error:
                ended.append((error.code, time.monotonic()))

    thread = threading.Thread(target=follow)
    thread.start()
    assert started.wait(30)
    broker.grants.remove("t", "alice")
    removed = time.monotonic()
    thread.join(30)
    ((code, at),) = ended
    assert code == "topic.not_granted"
    assert at - removed < 5


def test_a_lookup_that_is_open_ends_too(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensign_core.broker.access.LOOK_AGAIN_S", 0.0)
    broker.publish("t", events(1, 2))
    broker.grants.add("t", "alice")
    lookup = broker.lookup("alice")
    assert lookup.event("t", 0) is not None
    broker.grants.remove("t", "alice")
    assert refused(lookup.event, "t", 1).code == "topic.not_granted"


def test_grants_survive_a_restart(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "b", ["alice", "bob"])
    with readers.open(None) as broker:
        broker.publish("plain", events(1))
        broker.create_topic("t", CLIENT)
        for topic in ("plain", "t"):
            broker.grants.add(topic, "alice", readers.public("alice"))
            broker.grants.add(topic, "bob", readers.public("bob"))
            broker.grants.remove(topic, "bob")
        broker.publish("t", events(2))
        before = broker.grants.list("plain"), broker.grants.list("t")
    with readers.open(None) as broker:
        assert (broker.grants.list("plain"), broker.grants.list("t")) == before
        assert [one.reader for one in before[1]] == ["alice"]
        assert read(broker, "alice", "plain") == ["1"]
        assert refused(broker.reader, ["plain"], as_reader="bob").code == "topic.not_granted"
        broker.publish("t", events(3))
    assert readers.read("alice") == ["2", "3"]


def test_a_name_and_a_public_key_belong_together(broker: Broker, tmp_path: Path) -> None:
    readers = Readers(tmp_path / "b", ["alice", "new"])
    broker.create_topic("t")
    broker.grants.add("t", "alice")
    broker.grants.add("t", "alice", readers.public("alice"))
    assert broker.grants.list("t")[0].public_key == readers.public("alice")
    assert refused(broker.grants.add, "t", "bob", readers.public("alice")).code == (
        "reader.key_taken"
    )
    assert refused(broker.grants.add, "t", "alice", readers.public("new")).code == (
        "reader.key_differs"
    )
    assert refused(broker.grants.add, "t", "bob", "no key").code == "reader.key_malformed"
    assert [one.reader for one in broker.grants.list("t")] == ["alice"]
    broker.grants.remove("t", "alice")
    broker.grants.add("t", "alice", readers.public("new"))
    assert broker.grants.list("t")[0].public_key == readers.public("new")


@pytest.mark.parametrize("name", ["", " ", " a", "a\n", "a\0b", "x" * 256])
def test_names_that_may_not_be(broker: Broker, name: str) -> None:
    broker.create_topic("t")
    assert refused(broker.grants.add, "t", name).code == "reader.name_invalid"


def test_topics_that_there_are_not(broker: Broker) -> None:
    for call in (broker.grants.add, broker.grants.remove):
        assert refused(call, "t", "alice").code == "topic.unknown"
    assert refused(broker.grants.list, "t").code == "topic.unknown"


def test_a_reader_by_name_reads_what_is_client_sealed_with_an_identity_only(
    tmp_path: Path,
) -> None:
    readers = Readers(tmp_path / "b", ["alice"])
    with readers.open("alice") as broker:
        broker.create_topic("t", CLIENT)
        broker.grants.add("t", "alice", readers.public("alice"))
        broker.publish("t", events(1))
        assert read(broker, "alice") == ["1"]
        assert refused(broker.reader, ["t"], as_reader="bob").code == "topic.not_granted"
    with readers.open(None) as broker:
        assert refused(broker.reader, ["t"], as_reader="alice").code == "topic.client_sealed"


def test_a_database_of_an_earlier_version_takes_grants(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "b", ["alice"])
    with readers.open(None) as broker:
        broker.publish("plain", events(1))
    with apsw.Connection(str(readers.folder / "keys.db")) as db:
        for table in ("reader_keys", "grants", "readers"):
            db.execute(f"DROP TABLE {table}")
        db.execute("DROP INDEX one_active_of_server")
        db.execute("ALTER TABLE data_keys DROP COLUMN sealing")
        db.execute("CREATE UNIQUE INDEX one_active ON data_keys (topic) WHERE state = 'active'")
    with apsw.Connection(str(readers.folder / "ensign.db")) as db:
        db.execute("PRAGMA user_version = 3")
    with readers.open(None) as broker, readers.open(None) as other:
        assert read(broker, None, "plain") == ["1"]
        broker.create_topic("t", CLIENT)
        broker.grants.add("t", "alice", readers.public("alice"))
        broker.publish("t", events(2))
        other.publish("t", events(3))
        assert len(broker.topic("t").key_ids) == 2
    assert readers.read("alice") == ["2", "3"]


def test_what_changes_and_what_is_refused_is_in_the_audit(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "b", ["alice", "eve"])
    with readers.open("eve") as broker:
        broker.create_topic("plain")
        broker.create_topic("t", CLIENT)
        broker.grants.add("plain", "alice")
        broker.grants.add("plain", "alice")
        broker.grants.add("t", "alice", readers.public("alice"))
        with readers.open("alice") as alice:
            alice.grants.add("t", "bob", readers.public("eve"), past=True)
        broker.grants.remove("t", "bob")
        for _ in range(2):
            assert refused(broker.reader, ["t"]).code == "topic.not_granted"
        lookup = broker.lookup("eve")
        broker.publish("plain", events(1))
        for _ in range(2):
            assert refused(lookup.event, "plain", 0).code == "topic.not_granted"
    noted = [json.loads(line) for line in readers.read(None, "ensign.audit")]
    assert all(one.pop("at").endswith("Z") for one in noted)
    denied = {"kind": "access.denied", "topic": "t", "public_key": readers.public("eve")}
    assert noted == [
        {"kind": "grant.added", "topic": "plain", "reader": "alice"},
        {"kind": "grant.added", "topic": "t", "reader": "alice"},
        {"kind": "grant.added", "topic": "t", "reader": "bob", "past": "true"},
        {"kind": "grant.removed", "topic": "t", "reader": "bob"},
        denied,
        denied,
        {"kind": "access.denied", "topic": "plain", "reader": "eve"},
    ]


def test_what_was_refused_is_refused_again_at_once(broker: Broker) -> None:
    broker.publish("t", events(1, 2))
    with broker.reader(["t"], as_reader="alice") as reader:
        broker.grants.add("t", "bob")
        reader._access._again_at = 0.0
        for _ in range(3):
            assert refused(reader.fetch).code == "topic.not_granted"
