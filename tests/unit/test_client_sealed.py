"""Client-sealed topics: readers with a grant read them, and whoever has all but an identity does
not."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ensign_core import frame
from ensign_core.broker import Broker, Deduplication, Retention, TopicPolicy
from ensign_core.broker.events import event_batch
from ensign_core.crypto import FileProvider, Opener
from ensign_core.crypto.keyring import FRAMES
from tests.sealing import CLIENT, Readers, drained, events, refused, sealed_topic


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    return Readers(tmp_path / "b", ["alice", "bob", "eve"])


@pytest.fixture
def broker(readers: Readers) -> Iterator[Broker]:
    with sealed_topic(readers) as made:
        yield made


def secrets(broker: Broker) -> list[bytes]:
    """The data keys that the process of a broker made."""
    return [made._secret for made in broker._vault.client_keys._made.values()]


def test_readers_with_a_grant_read_and_nobody_else(broker: Broker, readers: Readers) -> None:
    broker.publish("t", events(1, 2))
    broker.publish("t", events(3))
    assert readers.read("alice") == ["1", "2", "3"]
    assert readers.read("alice", start=2) == ["3"]
    assert refused(readers.read, None).code == "topic.client_sealed"
    error = refused(readers.read, "eve")
    assert error.code == "topic.not_granted"
    assert "offsets 0 to 2" in error.sentence
    info = broker.topic("t")
    assert (info.events, info.next_offset, info.policy) == (3, 3, CLIENT)


def test_the_writer_cannot_read_what_it_wrote(broker: Broker) -> None:
    broker.publish("t", events(1))
    assert refused(broker.reader, ["t"]).code == "topic.client_sealed"
    assert refused(broker.lookup().event, "t", 0).code == "topic.client_sealed"
    moment = datetime.fromtimestamp(0, UTC)
    assert refused(broker.offset, "t", moment).code == "topic.client_sealed"


def test_the_key_of_the_project_and_all_files_do_not_open_it(
    broker: Broker, readers: Readers
) -> None:
    broker.publish("t", events("Zyklame"))
    (secret,) = secrets(broker)
    forms = [secret, secret.hex().encode(), base64.b64encode(secret)[:-1], secret[::-1]]
    files = [path for path in readers.folder.parent.rglob("*") if path.is_file()]
    assert {"keys.db", "ensign.db", "b.keys"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert [form for form in (*forms, b"Zyklame") if form in content] == [], path
    with Broker.open(readers.folder) as thief:
        ring, engine = thief._vault.keys, thief._engine
        (row,) = engine.keys.stored([engine.topic_ids(["t"])["t"]])
        assert (row.wrapped, row.sealing) == (b"", "client")
        assert refused(ring.frame_opener, row).code == "key.damaged"
        (kek,) = FileProvider(readers.folder.with_name("b.keys")).keys(create=False)
        candidates = [kek, ring._record_key, ring._legacy_record_key, bytes(32)]
        for info in (b"wrap", b"check", b"records", b"frames", row.key_id, row.topic_id):
            for prefix in (b"ensign v1 kek ", b"ensign v1 ", b""):
                derive = HKDF(SHA256(), length=32, salt=None, info=prefix + info)
                candidates.append(derive.derive(kek))
        (stored,) = engine.frames([row.topic_id], 0, 1)
        header, clear, sealed = frame.parse(stored.frame)
        for key in candidates:
            opener = Opener(key, FRAMES)
            error = refused(opener.open, header.session, header.counter, sealed, clear)
            assert error.code == "frame.tampered"
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(bytes(12), sealed, clear)
        assert Opener(secret, FRAMES).open(header.session, header.counter, sealed, clear)


def test_a_writer_needs_somebody_to_seal_for(readers: Readers) -> None:
    with Broker.open(readers.folder) as broker:
        broker.create_topic("t", CLIENT)
        assert refused(broker.publish, "t", events(1)).code == "grants.none"
        assert refused(broker.grants.add, "t", "alice").code == "reader.key_missing"
        broker.grants.add("t", "alice", readers.public("alice"))
        assert broker.publish("t", events(1)) == 0
        broker.grants.remove("t", "alice")
        assert refused(broker.publish, "t", events(2)).code == "grants.none"
        broker.grants.add("t", "alice")
        assert broker.publish("t", events(3)) == 1
    error = refused(readers.read, "alice")
    assert (error.code, "offsets 0 to 0" in error.sentence) == ("topic.not_granted", True)
    assert readers.read("alice", start=1) == ["3"]


def test_a_reader_who_comes_later_reads_from_then_on(broker: Broker, readers: Readers) -> None:
    for number in range(3):
        broker.publish("t", events(number))
        broker.grants.add("t", "alice")
    broker.grants.add("t", "bob", readers.public("bob"))
    error = refused(readers.read, "bob")
    assert (error.code, "offsets 0 to 2" in error.sentence) == ("topic.not_granted", True)
    broker.publish("t", events(3))
    error = refused(readers.read, "bob")
    assert (error.code, "offsets 0 to 2" in error.sentence) == ("topic.not_granted", True)
    assert readers.read("bob", start=3) == ["3"]
    assert readers.read("alice") == ["0", "1", "2", "3"]
    assert len(broker.topic("t").key_ids) == 2


def test_somebody_who_can_read_gives_the_past_too(broker: Broker, readers: Readers) -> None:
    broker.publish("t", events(1))
    with Broker.open(readers.folder) as other:
        other.publish("t", events(2))
    assert refused(broker.grants.add, "t", "bob", readers.public("bob"), past=True).code == (
        "topic.client_sealed"
    )
    with readers.open("eve") as eve:
        error = refused(eve.grants.add, "t", "bob", readers.public("bob"), past=True)
        assert error.code == "topic.not_granted"
    assert [one.reader for one in broker.grants.list("t")] == ["alice"]
    with readers.open("alice") as alice:
        alice.grants.add("t", "bob", readers.public("bob"), past=True)
    broker.publish("t", events(3))
    assert readers.read("bob") == ["1", "2", "3"]
    broker.grants.add("t", "eve", readers.public("eve"))
    with readers.open("bob") as bob:
        bob.grants.add("t", "eve", past=True)
    assert readers.read("eve") == ["1", "2", "3"]


def test_the_past_is_given_whole_or_not_at_all(
    broker: Broker, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that begins to write between the look at the keys and the grant is seen."""
    broker.publish("t", events(1))
    with readers.open("alice") as alice, Broker.open(readers.folder) as late:
        past = alice._vault.client_keys.past
        writers = iter([late])

        def meanwhile(topic_id: bytes, public_key: str) -> dict[bytes, bytes]:
            boxes = past(topic_id, public_key)
            for writer in writers:
                writer.publish("t", events(2))
            return boxes

        monkeypatch.setattr(alice._vault.client_keys, "past", meanwhile)
        alice.grants.add("t", "bob", readers.public("bob"), past=True)
    assert readers.read("bob") == ["1", "2"]


def test_threads_and_writers_of_a_process_share_a_key(broker: Broker, readers: Readers) -> None:
    def write() -> None:
        writer = broker.writer()
        for number in range(20):
            writer.append([("t", event_batch("t", events(number)))])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(broker.topic("t").key_ids) == 1
    assert sorted(map(int, readers.read("alice"))) == sorted([*range(20)] * 4)


def test_mixed_topics_in_one_append(broker: Broker, readers: Readers) -> None:
    names = ["t", "plain", "t", "new"]
    broker.create_topic("plain")
    broker.writer().append([(name, event_batch(name, events(name))) for name in names])
    with broker.reader(["plain", "new"]) as reader:
        assert drained(reader.fetch) == ["plain", "new"]
    assert refused(broker.reader, ["plain", "t"]).code == "topic.client_sealed"
    with readers.open("alice") as alice, alice.reader(["plain", "t", "new"]) as reader:
        assert drained(reader.fetch) == ["t", "plain", "t", "new"]


def test_deleting_a_topic_leaves_no_grants_and_no_keys(broker: Broker, readers: Readers) -> None:
    broker.publish("t", events(1))
    with readers.open("alice") as alice, alice.reader(["t"]) as reader:
        assert drained(reader.fetch) == ["1"]
        broker.delete_topic("t")
        db = broker._engine.database.connection()
        for table in ("grants", "reader_keys"):
            assert list(db.execute(f"SELECT * FROM keys.{table}")) == []
        broker.publish("t", events("plain"))
        assert drained(lambda: reader.fetch(0.6)) == []
    assert readers.read(None) == ["plain"]


@pytest.mark.parametrize(
    "policy",
    [
        {"retention": Retention(compact=True)},
        {"deduplication": Deduplication("strict")},
        {"deduplication": Deduplication("unique_key", ("id",))},
    ],
)
def test_what_must_see_inside_is_refused(policy: dict[str, object]) -> None:
    error = refused(TopicPolicy, sealing="client", **policy)
    assert error.code == "topic.client_sealed"


def test_how_a_topic_is_sealed_stays(broker: Broker) -> None:
    broker.create_topic("plain")
    for call in (broker.create_topic, broker.set_policy):
        assert refused(call, "plain", CLIENT).code == "topic.sealing_fixed"
    assert refused(broker.set_policy, "t", TopicPolicy()).code == "topic.sealing_fixed"
    made = broker.create_topic("t", CLIENT)
    assert made == broker.create_topic("t") == broker.topic("t")
    assert made == broker.create_topic("t", TopicPolicy()), "as a pipeline does with its policies"


def test_boxes_that_were_moved_or_changed_are_told(broker: Broker, readers: Readers) -> None:
    broker.publish("t", events(1))
    db = broker._engine.database.connection()
    ((box,),) = db.execute("SELECT wrapped FROM keys.reader_keys")
    for place in itertools.chain(range(0, len(box), 7), [len(box) - 1]):
        damaged = bytearray(box)
        damaged[place] ^= 1
        db.execute("UPDATE keys.reader_keys SET wrapped = ?", (bytes(damaged),))
        assert refused(readers.read, "alice").code == "reader.key_wrong"
    db.execute("UPDATE keys.reader_keys SET wrapped = ?", (box,))
    assert readers.read("alice") == ["1"]
