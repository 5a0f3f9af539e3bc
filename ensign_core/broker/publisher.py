"""Publishing with acks, from any number of threads and from callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from ensign_core.broker.commits import SEQUENCE_MAX
from ensign_core.broker.committer import Committer
from ensign_core.broker.events import Event, checked_bodies
from ensign_core.broker.names import check_topic_name
from ensign_core.broker.receipts import Acked, Receipt
from ensign_core.broker.vault import Vault
from ensign_core.change import Offset
from ensign_core.errors import EnsignError


class Publisher:
    """Made by `Broker.publisher`. All publishers of a broker share their syncs; each method may be
    called by any thread.

    In a session each event of a topic has a sequence, rising by one or more: given, by whoever may
    have to publish the event again, or else assigned. A sequence that was stored is not stored
    again, in whatever process and after whatever crash, and is acked with the offset that it got.
    Of each session and topic the newest some hundred runs of sequences are remembered, of those
    seen in the last weeks (`ensign_core.engine.publishing` has the limits); an older sequence is
    refused as ``publish.sequence_forgotten``. Sequences are given by one at a time: what two give
    the same number is one event.
    """

    def __init__(
        self,
        vault: Vault,
        committer: Committer,
        session: bytes | str | None = None,
        *,
        create_topics: bool = True,
    ) -> None:
        self._vault = vault
        self._committer = committer
        self._create = create_topics
        self._session: bytes | None = None
        if session is not None:
            name = session.encode() if isinstance(session, str) else session
            self._session = vault.keys.fingerprinter()(b"session:" + name)

    def publish(self, topic: str, event: Event, sequence: int | None = None) -> Acked:
        """Publish an event; returns when it is on the disk. Raises ``event.too_large``,
        ``topic.unknown``, ``topic.name_invalid``, ``topic.archived``,
        ``publish.sequence_forgotten`` and the engine's errors: then it was not stored."""
        receipt = self._receipt(topic, [event], sequence)
        self._committer.put(receipt, lead=True)
        return receipt.result()

    def publish_many(
        self, topic: str, events: Iterable[Event], first_sequence: int | None = None
    ) -> list[Acked]:
        """Publish events in one commit, all or none, with consecutive sequences; returns when they
        are on the disk, and raises as `publish` does."""
        receipt = self._receipt(topic, events, first_sequence)
        if not receipt.count:
            return []
        self._committer.put(receipt, lead=True)
        return receipt.results()

    def publish_all(self, topic: str, events: Iterable[Event]) -> Offset | None:
        """The same for who needs no more than the last event's offset; None if there were none."""
        receipt = self._receipt(topic, events, None)
        if not receipt.count:
            return None
        self._committer.put(receipt, lead=True)
        return receipt.result().offset

    def send(
        self,
        topic: str,
        event: Event,
        sequence: int | None = None,
        on_done: Callable[[Receipt], object] | None = None,
    ) -> Receipt:
        """Publish an event without waiting for it, but for a place in the queue where that is full.
        Raises what is wrong with the event itself; the receipt says what became of it, and
        ``on_done`` is called with it then, in another thread (with asyncio pass the receipt on by
        ``loop.call_soon_threadsafe``). Events of one caller are stored in their order."""
        receipt = self._receipt(topic, [event], sequence, on_done)
        self._committer.put(receipt, lead=False)
        return receipt

    def newest_sequence(self, topic: str) -> int:
        """The highest sequence of the session that the topic has; -1 if it has none. Where an
        application that numbers its events itself goes on."""
        topic_id = self._vault.engine.topic_ids([topic]).get(topic)
        if topic_id is None or self._session is None:
            return -1
        return self._vault.engine.publishing.window(topic_id, self._session, 0, -1).newest

    def _receipt(
        self,
        topic: str,
        events: Iterable[Event],
        sequence: int | None,
        on_done: Callable[[Receipt], object] | None = None,
    ) -> Receipt:
        check_topic_name(topic)
        listed = list(events)
        if sequence is not None and (
            self._session is None or not 0 <= sequence <= SEQUENCE_MAX - len(listed)
        ):
            raise EnsignError(
                "publish.sequence_invalid",
                "A sequence is a number from 0 to 2^63 - 1, and belongs to a session.",
                "Make the publisher with a session, and number its events from 0 on.",
            )
        return Receipt(
            topic, listed, *checked_bodies(listed), session=self._session, sequence=sequence,
            create=self._create, on_done=on_done,
        )  # fmt: skip

    def close(self) -> None:
        """Return when what was sent before is done."""
        self._committer.drain()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
