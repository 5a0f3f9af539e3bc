"""Client-sealed topics of tests: identities, and what an identity can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event, TopicPolicy
from ensign_core.broker.events import received
from ensign_core.crypto import Identity
from ensign_core.errors import EnsignError

CLIENT = TopicPolicy(sealing="client")


class Readers:
    """Identities by name, and a broker's folder that they read with one each."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self.of = {name: Identity.create(folder.parent / f"{name}.identity") for name in names}

    def public(self, name: str) -> str:
        return self.of[name].public

    def open(self, name: str | None) -> Broker:
        return Broker.open(self.folder, identity=self.of[name] if name else None)

    def read(self, name: str | None, topic: str = "t", start: int = 0) -> list[str]:
        """All data of a topic, as one of them reads it in a process that has just begun."""
        with self.open(name) as broker, broker.reader([topic], start) as reader:
            return drained(reader.fetch)


@contextmanager
def sealed_topic(readers: Readers) -> Iterator[Broker]:
    """A broker without an identity, with a client-sealed topic that alice may read."""
    with readers.open(None) as broker:
        broker.create_topic("t", CLIENT)
        broker.grants.add("t", "alice", readers.public("alice"))
        yield broker


def drained(fetch: object) -> list[str]:
    """The data of all events that are there."""
    assert callable(fetch)
    return [
        one.event.data.decode()
        for batches in iter(fetch, [])
        for batch in batches
        for one in received(batch)
        if one.event is not None
    ]


def events(*data: object) -> list[Event]:
    return [Event(str(one).encode()) for one in data]


def refused(call: object, *args: object, **options: object) -> EnsignError:
    """The error that a call ends in."""
    assert callable(call)
    with pytest.raises(EnsignError) as raised:
        call(*args, **options)
    return raised.value
