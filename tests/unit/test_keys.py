"""The life of keys in one process: rotated, wrapped anew under another KEK, revoked."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest

from ensign_core.broker import Broker, KeyInfo, Reader, vault
from ensign_core.broker.audit import AUDIT_TOPIC
from ensign_core.crypto import EnvironmentProvider, FileProvider, KeyRing, default_key_file
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from tests.files import holders
from tests.unit.test_broker import data_of, drain, events, refused


def keys_of(broker: Broker, topic: str) -> list[KeyInfo]:
    return [key for key in broker.keys.list() if key.topic == topic]


def audited(broker: Broker) -> list[dict[str, str]]:
    with broker.reader([AUDIT_TOPIC]) as reader:
        return [json.loads(data) for data in drain(reader)]


def wrapped(broker: Broker) -> list[bytes]:
    """All keys as they are stored."""
    return [key.wrapped for key in broker._engine.keys.stored() if key.wrapped]


def test_what_was_sealed_under_retired_keys_is_read(broker: Broker) -> None:
    for number in range(3):
        broker.publish("t", events(number))
        (new,) = broker.keys.rotate("t")
        assert (new.topic, new.state, new.frames) == ("t", "active", 0)
    broker.publish("t", events(3, 4))
    with broker.reader(["t"]) as reader:
        assert drain(reader) == ["0", "1", "2", "3", "4"]
    found = keys_of(broker, "t")
    assert [(key.state, key.frames) for key in found] == [("retired", 1)] * 3 + [("active", 1)]
    assert sorted(found, key=lambda key: key.created) == found
    assert sorted(broker.topic("t").key_ids) == sorted(key.key_id for key in found)


def test_rotating_all_leaves_out_topics_without_a_key(broker: Broker) -> None:
    assert broker.keys.rotate() == []
    broker.create_topic("empty")
    broker.publish("a", events(1))
    broker.publish("b", events(1))
    assert [key.topic for key in broker.keys.rotate()] == ["a", "b"]
    assert keys_of(broker, "empty") == []
    assert refused(broker.keys.rotate, "nowhere") == "topic.unknown"


def test_a_revoked_key_is_told_with_the_offsets(broker: Broker) -> None:
    reader, before = three_keys(broker)
    revoked = broker.keys.revoke(before[1].key_id.upper())
    assert revoked == before[1]
    assert data_of(reader.fetch()) == ["0", "1"]
    for _ in range(2):
        with pytest.raises(EnsignError, match=r"topic t, offsets 2 to 3") as raised:
            reader.fetch()
        assert raised.value.code == "key.revoked"
    assert [key.state for key in keys_of(broker, "t")] == ["retired", "revoked", "active"]
    assert broker.keys.ranges(before[1].key_id) == [(2, 3)]
    with broker.reader(["t"], 4) as later:
        assert drain(later) == ["4", "5"]


def three_keys(broker: Broker) -> tuple[Reader, Sequence[KeyInfo]]:
    """Two events under each of three keys, and a reader at their start."""
    for number in range(0, 6, 2):
        if number:
            broker.keys.rotate("t")
        broker.publish("t", events(number, number + 1))
    return broker.reader(["t"]), keys_of(broker, "t")


@pytest.mark.parametrize("start", range(7))
def test_a_reader_goes_on_behind_revoked_keys(broker: Broker, start: int) -> None:
    reader, (first, second, third) = three_keys(broker)
    reader.close()
    broker.keys.revoke(second.key_id)
    with broker.reader(["t"], start, skip_revoked=True) as passing:
        assert drain(passing) == [str(n) for n in range(start, 6) if n not in (2, 3)]
        assert (passing.skipped, passing.offsets) == (len({2, 3} - set(range(start))), {"t": 6})
    for key in (first, third):
        broker.keys.revoke(key.key_id)
    with broker.reader(["t"], start, skip_revoked=True) as passing:
        assert (passing.fetch(), passing.skipped) == ([], 6 - start)
        broker.publish("t", events("new"))
        assert drain(passing) == ["new"]


def test_only_what_a_revoked_key_sealed_is_passed_over(broker: Broker) -> None:
    broker.publish("t", events(1))
    db = broker._engine.database.connection()
    db.execute("UPDATE bodies SET data = CAST(substr(data, 1, length(data) - 1) AS BLOB)")
    with broker.reader(["t"], skip_revoked=True) as reader:
        assert refused(reader.fetch).startswith("frame.")


def test_a_revoked_active_key_is_followed_by_another(broker: Broker) -> None:
    writer = broker.writer()
    broker.publish("t", events(1))
    broker.keys.revoke(keys_of(broker, "t")[0].key_id)
    assert broker.publish("t", events(2)) == 1
    assert [key.state for key in keys_of(broker, "t")] == ["revoked", "active"]
    with broker.reader(["t"], 1) as reader:
        assert drain(reader) == ["2"]
        with broker.reader(["t"]) as whole:
            (batch,) = broker.reader(["t"], 1).fetch()
            writer.append([("t", batch)])
            assert refused(whole.fetch) == "key.revoked"
        assert drain(reader) == ["2"]


def test_a_single_event_is_not_given_from_memory_once_its_key_is_revoked(broker: Broker) -> None:
    broker.publish("t", events(1, 2))
    lookup = broker.lookup()
    assert lookup.event("t", 0) is not None
    broker.keys.revoke(keys_of(broker, "t")[0].key_id)
    for offset in (0, 1, 0):
        assert refused(lookup.event, "t", offset) == "key.revoked"
    broker.publish("t", events(3))
    assert lookup.event("t", 2) is not None


def test_revoking_leaves_nothing_of_a_key_in_the_folder(broker: Broker, tmp_path: Path) -> None:
    three_keys(broker)[0].close()
    secrets = []
    for key in broker._engine.keys.stored():
        secrets += [key.wrapped, broker._vault.keys._unwrap(key)]
    assert all(holders(tmp_path / "b", secret) == ["keys.db"] for secret in secrets[::2])
    for info in broker.keys.list():
        broker.keys.revoke(info.key_id)
    mine = set(wrapped(broker))
    assert len(mine) == 2, "the project's own, and the new one of the audit"
    for secret in secrets:
        assert holders(tmp_path, secret) == (["b/keys.db"] if secret in mine else [])


def test_what_is_not_a_key_is_unknown(broker: Broker) -> None:
    broker.publish("t", events(1))
    (own,) = broker._engine.keys.stored([bytes(16)])
    for key_id in ("", "no hex", "00" * 16, own.key_id.hex()):
        assert refused(broker.keys.revoke, key_id) == "key.unknown"
        assert refused(broker.keys.ranges, key_id) == "key.unknown"
    assert audited_or_none(broker) == []


def audited_or_none(broker: Broker) -> list[dict[str, str]]:
    return audited(broker) if broker.topics([AUDIT_TOPIC]) else []


def test_what_was_done_to_keys_is_audited(broker: Broker) -> None:
    broker.publish("t", events(1))
    (old,) = keys_of(broker, "t")
    (new,) = broker.keys.rotate()
    broker.keys.rotate_master()
    broker.keys.revoke(old.key_id)
    broker.audit("thing.done", what="x")
    found = audited(broker)
    assert [{k: v for k, v in one.items() if k != "at"} for one in found] == [
        {"kind": "key.rotated", "topic": "t", "key_id": new.key_id},
        {"kind": "key.master_rotated"},
        {"kind": "key.revoked", "topic": "t", "key_id": old.key_id},
        {"kind": "thing.done", "what": "x"},
    ]
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)


def test_the_audit_survives_the_revocation_of_its_own_key(broker: Broker) -> None:
    broker.audit("first")
    broker.keys.revoke(keys_of(broker, AUDIT_TOPIC)[0].key_id)
    with broker.reader([AUDIT_TOPIC], skip_revoked=True) as reader:
        assert [json.loads(data)["kind"] for data in drain(reader)] == ["key.revoked"]


def test_pipelines_of_all_topics_do_not_carry_the_audit_away(broker: Broker) -> None:
    broker.audit("first")
    broker.publish("t", events(1))
    broker.pipelines.give_topics("p", ["*"])
    assert broker.pipelines.topics("p") == ["t"]
    broker.pipelines.give_topics("p", ["*", AUDIT_TOPIC])
    assert broker.pipelines.topics("p") == [AUDIT_TOPIC, "t"]


def test_a_new_kek_wraps_all_and_data_stays(broker: Broker, tmp_path: Path) -> None:
    three_keys(broker)[0].close()
    broker.pipelines.set_status("p", {"n": 1})
    broker.keys.revoke(keys_of(broker, "t")[0].key_id)
    file = default_key_file(tmp_path / "b")
    before, text, size = wrapped(broker), file.read_text(), broker.topic("t").bytes
    assert broker.keys.rotate_master()
    for secret in before:
        assert holders(tmp_path, secret) == []
    assert len(wrapped(broker)) == len(before)
    assert text.strip() not in file.read_text()
    assert file.read_text().count("\n") == 1
    for one in (broker, Broker.open(tmp_path / "b")):
        with one.reader(["t"], 2) as reader:
            assert drain(reader) == ["2", "3", "4", "5"]
        assert one.pipelines.statuses() == {"p": {"n": 1}}
        assert one.topic("t").bytes == size
    one.close()


def test_whoever_is_open_goes_on_after_the_kek_was_rotated(broker: Broker, tmp_path: Path) -> None:
    """With what it has opened already, and with keys that it has not met yet."""
    other = Broker.open(tmp_path / "b")
    broker.publish("t", events(1))
    broker.publish("u", events(1))
    writer, reader = other.writer(), other.reader(["t"])
    (batch,) = reader.fetch()
    writer.append([("t", batch)])
    for _ in range(2):
        broker.keys.rotate_master()
    writer.append([("t", batch)])
    writer.append([("u", batch)])
    writer.append([("new", batch)])
    assert drain(reader) == ["1", "1"]
    with other.reader(["t", "u", "new"]) as fresh:
        assert drain(fresh) == ["1", "1", "1", "1", "1", "1"]
    other.pipelines.set_status("p", {"n": 1})
    assert broker.pipelines.statuses() == {"p": {"n": 1}}
    assert other.keys.rotate_master()
    with broker.reader(["new"]) as last:
        assert drain(last) == ["1"]
    broker.keys.rotate("new")
    broker.publish("new", events(2))
    other.close()


def kek(letter: bytes) -> str:
    return b64encode(letter * 32).decode()


def test_a_kek_of_the_environment_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEK", kek(b"1"))
    monkeypatch.delenv("KEK2", raising=False)
    folder, provider = tmp_path / "b", EnvironmentProvider("KEK", "KEK2")
    with Broker.open(folder, provider) as broker:
        broker.publish("t", events(1))
        assert refused(broker.keys.rotate_master) == "key.next_missing"
        old = Broker.open(folder, EnvironmentProvider("KEK"))
        monkeypatch.setenv("KEK2", kek(b"2"))
        assert broker.keys.rotate_master()
        assert not broker.keys.rotate_master(), "there is no newer one"
        broker.publish("u", events(2))
    with pytest.raises(EnsignError, match="Restart the worker") as raised:
        old.publish("new", events(3))
    assert raised.value.code == "key.kek_rotated"
    old.close()
    assert refused(Broker.open, folder, EnvironmentProvider("KEK")) == "key.wrong"
    monkeypatch.setenv("KEK", kek(b"2"))
    with Broker.open(folder, EnvironmentProvider("KEK")).reader(["t", "u"]) as reader:
        assert drain(reader) == ["1", "2"]


class Given:
    """A provider that does nothing but give a key."""

    def keys(self, *, create: bool) -> Sequence[bytes]:
        return [b"k" * 32]

    def describe(self) -> str:
        return "a test"


def test_a_kek_that_nobody_can_replace_stays(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "b", Given()) as broker:
        broker.publish("t", events(1))
        assert refused(broker.keys.rotate_master) == "key.not_rotatable"


def test_a_kek_that_is_rotated_while_a_broker_opens(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its looks at the check, the key file, and the keys."""
    broker.publish("t", events(1))
    provider = FileProvider(default_key_file(tmp_path / "b"))
    read, stored = FileProvider.keys, vault.record_key
    rotations = iter([True, True])

    def between(self: FileProvider, *, create: bool) -> Sequence[bytes]:
        if self is provider and next(rotations, False):
            broker.keys.rotate_master()
        return read(self, create=create)

    with monkeypatch.context() as patched:
        patched.setattr(FileProvider, "keys", between)
        with Broker.open(tmp_path / "b", provider).reader(["t"]) as reader:
            assert drain(reader) == ["1"]
    again = iter([True])

    def later(engine: SqliteEngine, ring: KeyRing, *, fresh: bool) -> object:
        if next(again, False):
            broker.keys.rotate_master()
        return stored(engine, ring, fresh=fresh)

    monkeypatch.setattr(vault, "record_key", later)
    with Broker.open(tmp_path / "b").reader(["t"]) as reader:
        assert drain(reader) == ["1"]
    assert next(rotations, None) is None
    assert next(again, None) is None


def test_a_project_of_before_can_be_rotated(tmp_path: Path) -> None:
    """Its check lies in the other database."""
    folder = tmp_path / "b"
    with Broker.open(folder) as broker:
        broker.publish("t", events(1))
        db = broker._engine.database.connection()
        ((check,),) = db.execute("SELECT value FROM keys.kek")
        db.execute("DROP TABLE keys.kek")
        db.execute("INSERT INTO meta VALUES ('kek', ?)", (check,))
        db.execute("PRAGMA user_version = 3")
    wrong = FileProvider(tmp_path / "wrong")
    wrong.keys(create=True)
    assert refused(Broker.open, folder, wrong) == "key.wrong"
    with Broker.open(folder) as broker:
        assert broker._engine.keys.check() == check
        assert broker.keys.rotate_master()
    assert refused(Broker.open, folder, wrong) == "key.wrong"
    with Broker.open(folder).reader(["t"]) as reader:
        assert drain(reader) == ["1"]


def test_the_key_file_is_for_its_owner_only_after_a_rotation(
    broker: Broker, tmp_path: Path
) -> None:
    broker.keys.rotate_master()
    assert os.stat(default_key_file(tmp_path / "b")).st_mode & 0o777 == 0o600
