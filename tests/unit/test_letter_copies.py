"""Copies of events in dead letters die with the data key of the event's frame."""

from __future__ import annotations

import pytest

from ensign_core.broker import Broker, received
from ensign_core.broker.copies import Copy
from ensign_core.cli.dead_letters import _data
from ensign_core.errors import EnsignError
from ensign_core.run import ingest, replay
from ensign_core.run.letters import Letter, read_letter
from tests.scripted import Running, Server, Target, rows

LETTERS = "shop.dead-letters"
ODD = b"odd-Zyklame"


@pytest.fixture(autouse=True)
def quick(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(ingest, "HEARTBEAT_S", 0.05)


def run(broker: Broker, server: Server, target: Target) -> None:
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None


def the_letter(broker: Broker) -> Letter:
    with broker.reader([LETTERS]) as reader:
        batches = reader.fetch()
    assert all(ODD not in one.change.body for batch in batches for one in received(batch))
    assert all(ODD not in batch.body for batch in batches), "no plaintext in the letters' topic"
    (letter,) = [read_letter(change) for batch in batches for change in batch]
    return letter


def opened(broker: Broker, letter: Letter, copy: Copy | None = None) -> bytes:
    copy = copy or letter.copy
    assert letter.place is not None
    assert copy is not None
    return broker.copies.open(LETTERS, *letter.place, copy)


def revoke(broker: Broker) -> None:
    (key,) = [key for key in broker.keys.list() if key.topic == "orders"]
    broker.keys.revoke(key.key_id)


def one_set_aside(broker: Broker) -> tuple[Server, Target]:
    server, target = Server([rows("orders", "a", ODD.decode(), "b")]), Target()
    target.odd = {ODD.decode()}
    run(broker, server, target)
    target.odd = set()
    return server, target


def test_a_copy_opens_and_is_replayed_while_its_key_is_there(broker: Broker) -> None:
    server, target = one_set_aside(broker)
    letter = the_letter(broker)
    body = opened(broker, letter)
    assert (letter.place, letter.size, ODD in body) == (("orders", 1), len(body), True)
    assert set(_data(broker, "shop", letter)) == {"data"}
    broker.pipelines.letters("shop").ask("bus", [0])
    run(broker, server, target)
    assert target.again == [ODD.decode()]
    assert broker.pipelines.letters("shop").done() == {0}


def test_a_copy_is_gone_with_its_key_and_the_letter_stays(broker: Broker) -> None:
    server, target = one_set_aside(broker)
    letter = the_letter(broker)
    revoke(broker)
    with pytest.raises(EnsignError) as failed:
        opened(broker, letter)
    assert failed.value.code == "key.revoked"
    assert _data(broker, "shop", the_letter(broker)) == {"data": None, "data_code": "key.revoked"}
    letters = broker.pipelines.letters("shop")
    letters.ask("bus", [0])
    run(broker, server, target)
    assert (target.again, letters.done()) == ([], set())
    assert letters.fates(0, 0)[0].code == "key.revoked"


def test_what_is_set_aside_after_the_revocation_has_no_copy(broker: Broker) -> None:
    one_set_aside(broker)
    revoke(broker)
    assert broker.copies.seal(LETTERS, "orders", 1, ODD) is None
    assert broker.copies.seal(LETTERS, "orders", 99, ODD) is None
    assert broker.copies.seal(LETTERS, "none", 0, ODD) is None


def test_a_copy_is_bound_to_its_event(broker: Broker) -> None:
    one_set_aside(broker)
    letter = the_letter(broker)
    for wrong in ((LETTERS, "orders", 0), ("other.dead-letters", "orders", 1)):
        assert letter.copy is not None
        with pytest.raises(EnsignError) as failed:
            broker.copies.open(*wrong, letter.copy)
        assert failed.value.code == "frame.tampered"


def test_a_letter_of_before_still_opens(broker: Broker) -> None:
    one_set_aside(broker)
    letter = the_letter(broker)
    known = {name: value for name, value in letter.known.items() if name not in ("key", "bytes")}
    old = letter._replace(data=ODD, known=known)
    assert (old.copy, old.size) == (None, len(ODD))
    assert set(_data(broker, "shop", old)) == {"data"}
