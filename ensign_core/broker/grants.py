"""Who may read which topics: given and taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ensign_core.broker.client_keys import GRANTS_TRIES_MAX, changing, client_sealed
from ensign_core.broker.vault import Vault, now_us
from ensign_core.crypto import parse_public, public_text
from ensign_core.engine import Grant, StaleWriteError, Topic
from ensign_core.errors import EnsignError

READER_CHARS_MAX = 255


@dataclass(frozen=True)
class Granted:
    """A reader who may read a topic, and since when. Nothing is sealed for one without a public
    key."""

    topic: str
    reader: str
    public_key: str | None
    since: datetime


class Grants:
    """`Broker.grants`. Every method may be called from any thread.

    On a client-sealed topic a grant is a key: whoever writes seals for the readers that have one.
    On another the broker enforces it, on readers that say who they are: a topic that never had a
    grant is open to all of them, any other to those that have one. What changes is noted in the
    audit.
    """

    def __init__(
        self, vault: Vault, find: Callable[[str], Topic], audit: Callable[..., None]
    ) -> None:
        self._vault = vault
        self._audit = audit
        self._grants = vault.engine.grants
        self._find = find

    def add(
        self, topic: str, reader: str, public_key: str | None = None, *, past: bool = False
    ) -> None:
        """Let a reader read a topic. On a client-sealed one it takes the reader's public key, at
        the first grant, and counts for what is written from now on; with ``past`` for all that the
        broker's own identity can read too. One that is there already stays.

        Raises ``topic.unknown``, ``reader.name_invalid``, ``reader.key_malformed``,
        ``reader.key_missing``, ``reader.key_taken``, ``reader.key_differs`` and, with ``past``,
        ``topic.client_sealed`` and ``topic.not_granted``; then nothing changed."""
        _check_name(reader)
        found = self._find(topic)
        if public_key is not None:
            public_key = public_text(parse_public(public_key))
        client = found.topic_id in self._vault.client_sealed({found.topic_id: topic})
        public_key = public_key or self._grants.public_key(reader)
        if client and public_key is None:
            raise EnsignError(
                "reader.key_missing",
                f"The topic {topic} is client-sealed, and no public key of {reader} is known.",
                "Give it with --public-key; the reader's `ensign grants identity FILE` prints it.",
            )
        grant = Grant(found.topic_id, reader, public_key, now_us(), True)
        for _ in range(GRANTS_TRIES_MAX):
            try:
                fresh = self._add_with_past(grant, topic) if past else self._grants.add(grant, {})
            except StaleWriteError:
                continue
            if fresh or past:
                fields = {"past": "true"} if past else {}
                self._audit("grant.added", topic=topic, reader=reader, **fields)
            return
        raise changing(topic)

    def _add_with_past(self, grant: Grant, topic: str) -> bool:
        identity = self._vault.client_keys.identity
        if identity is None:
            raise client_sealed(topic)
        assert grant.public_key is not None
        givers = [
            other
            for other in self._grants.of([grant.topic_id])
            if other.granted and other.public_key == identity.public
        ]
        if not givers:
            raise EnsignError(
                "topic.not_granted",
                f"The identity has no grant for the topic {topic}, so it has no past keys to give.",
                "Let somebody who can read the topic run the command.",
            )
        boxes = self._vault.client_keys.past(grant.topic_id, grant.public_key)
        return self._grants.add(grant, boxes, identity.public)

    def remove(self, topic: str, reader: str) -> None:
        """Let a reader read a topic no more: open readers of it end within a second, and on a
        client-sealed topic what was sealed for the reader is destroyed and nothing more is. Raises
        ``topic.unknown`` and ``grants.unknown``."""
        if not self._grants.remove(self._find(topic).topic_id, reader):
            raise EnsignError(
                "grants.unknown",
                f"The reader {reader} has no grant for the topic {topic}.",
                f"See who has: ensign grants list {topic}",
            )
        self._vault.look()
        self._audit("grant.removed", topic=topic, reader=reader)

    def list(self, topic: str) -> list[Granted]:
        """Who may read a topic, by name. Raises ``topic.unknown``."""
        return [
            Granted(
                topic,
                grant.reader,
                grant.public_key,
                datetime.fromtimestamp(grant.created / 1e6, UTC),
            )
            for grant in self._grants.of([self._find(topic).topic_id])
            if grant.granted
        ]


def _check_name(reader: str) -> None:
    if not reader.isprintable() or not 0 < len(reader.strip()) == len(reader) <= READER_CHARS_MAX:
        raise EnsignError(
            "reader.name_invalid",
            f"A reader's name is 1 to {READER_CHARS_MAX} characters that can be printed, without "
            "white space around them.",
            "Choose another name.",
        )
