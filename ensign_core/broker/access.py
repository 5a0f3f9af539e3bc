"""What somebody may read, looked at again while it is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ensign_core.broker.client_keys import client_sealed
from ensign_core.broker.vault import Vault
from ensign_core.errors import EnsignError

LOOK_AGAIN_S = 0.5
"""Grants are looked at this often while somebody reads: one that is taken away ends that within a
second."""


class Access:
    """Of the reader whom ``as_reader`` names: what of the topics has grants only if there is one of
    the reader. Without a name, of whoever holds the project's key, who reads all that the key
    opens. What is client-sealed needs the broker's identity and a grant of it in either case.
    ``audit`` is told what is refused. Belongs to one thread."""

    def __init__(
        self,
        vault: Vault,
        as_reader: str | None = None,
        audit: Callable[..., None] | None = None,
    ) -> None:
        self._vault = vault
        self._audit = audit
        self._as_reader = as_reader
        self._client: set[bytes] = set()
        self._known: set[bytes] = set()
        self._told: set[bytes] = set()
        self._again_at = 0.0

    @property
    def limited(self) -> bool:
        """Whether it may end while it is used."""
        return self._as_reader is not None or bool(self._client)

    def check(self, topics: Mapping[bytes, str]) -> None:
        """Raise ``topic.not_granted`` or ``topic.client_sealed`` unless all the topics, names by
        id, may be read."""
        fresh = topics.keys() - self._known
        now = time.monotonic()
        if not fresh and (not self.limited or now < self._again_at):
            return
        self._client |= self._vault.client_sealed({key: topics[key] for key in fresh})
        if self._as_reader is not None:
            self._check_reader(self._as_reader, topics)
        self._check_identity({key: topics[key] for key in self._client & topics.keys()})
        # Only now: what was refused is refused again.
        self._known |= fresh
        self._again_at = now + LOOK_AGAIN_S

    def _check_reader(self, reader: str, topics: Mapping[bytes, str]) -> None:
        found = self._vault.engine.grants.of(topics)
        granted = {grant.topic_id for grant in found if grant.granted and grant.reader == reader}
        guarded = {grant.topic_id for grant in found} | self._client
        refused = {key: topics[key] for key in topics if key in guarded - granted}
        self._refuse(refused, f"the reader {reader}", reader=reader)

    def _check_identity(self, topics: Mapping[bytes, str]) -> None:
        if not topics:
            return
        identity = self._vault.client_keys.identity
        if identity is None:
            raise client_sealed(next(iter(topics.values())))
        granted = {
            grant.topic_id
            for grant in self._vault.engine.grants.of(topics)
            if grant.granted and grant.public_key == identity.public
        }
        refused = {key: topics[key] for key in topics if key not in granted}
        self._refuse(refused, "the identity", public_key=identity.public)

    def _refuse(self, topics: Mapping[bytes, str], who: str, **named: str) -> None:
        """Raise for the first of the topics that is still there."""
        for found in self._vault.engine.topics(list(topics.values())) if topics else []:
            if found.topic_id not in topics:
                continue
            if self._audit is not None and found.topic_id not in self._told:
                self._told.add(found.topic_id)
                self._audit("access.denied", topic=found.name, **named)
            raise EnsignError(
                "topic.not_granted",
                f"There is no grant that lets {who} read (topic {found.name}, offsets "
                f"{found.first_offset} to {found.next_offset - 1}).",
                f"Have it granted: ensign grants add {found.name} READER",
            )
