"""What a topic's owner decided about it: how long events are kept, which are duplicates, who can
open what is sealed. Stored with the topic, sealed, since names of fields are nobody else's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from ensign_core.errors import EnsignError

Strategy = Literal["none", "strict", "datagram", "key_grouped", "unique_key", "unique_field"]


@dataclass(frozen=True)
class Retention:
    """How long events are kept: for ever unless something is set. What a group has not read is kept
    all the same, unless ``trim_unread``. ``compact`` keeps the latest event per key; a delete is
    kept for ``tombstone_s`` behind it, so that readers see it."""

    age_s: float | None = None
    bytes_max: int | None = None
    compact: bool = False
    tombstone_s: float = 86_400.0
    trim_unread: bool = False


@dataclass(frozen=True)
class Deduplication:
    """Which published events are duplicates of one that the topic has: ``strict`` (data, metadata,
    mimetype and type are equal), ``datagram`` (data), ``key_grouped`` (data, and the metadata of
    ``keys``), ``unique_key`` (the metadata of ``keys``), ``unique_field`` (the ``fields`` of JSON
    data, compared by value; ``a.b`` is the field b of the object a). ``keep`` says which of the two
    stays.

    What is missing is null, but an event that has none of the keys or fields, or no JSON, is a
    duplicate of nothing. Only what is published counts: changes that pipelines capture are never
    duplicates. Raises ``policy.invalid``."""

    strategy: Strategy = "none"
    keys: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    keep: Literal["earliest", "latest"] = "earliest"

    def __post_init__(self) -> None:
        for what, names, strategies in (
            ("keys", self.keys, ("key_grouped", "unique_key")),
            ("fields", self.fields, ("unique_field",)),
        ):
            if bool(names) != (self.strategy in strategies):
                raise EnsignError(
                    "policy.invalid",
                    f"The deduplication {self.strategy} has {'no' if names else 'to have'} {what}.",
                    f"Give {what} with {' or '.join(strategies)}, and with nothing else.",
                )


@dataclass(frozen=True)
class TopicPolicy:
    """All of it. ``sealing`` is ``server`` (whoever has the project's key reads) or ``client`` (the
    writer seals for the readers that have a grant); it is chosen when the topic is made. Raises
    ``topic.client_sealed`` for what must see inside the events of a client-sealed topic."""

    retention: Retention = field(default_factory=Retention)
    deduplication: Deduplication = field(default_factory=Deduplication)
    sealing: Literal["server", "client"] = "server"

    def __post_init__(self) -> None:
        if self.sealing == "client" and (
            self.retention.compact or self.deduplication.strategy != "none"
        ):
            raise EnsignError(
                "topic.client_sealed",
                "Neither compaction nor deduplication goes with client sealing: who does it must "
                "see inside the events.",
                "Leave them out, or let the topic be sealed by the server.",
            )

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> TopicPolicy:
        """What `encode` made, by this Ensign or an earlier one."""
        found = json.loads(data)
        dedup = found["deduplication"]
        return cls(
            Retention(**found["retention"]),
            Deduplication(
                dedup["strategy"], tuple(dedup["keys"]), tuple(dedup["fields"]), dedup["keep"]
            ),
            found["sealing"],
        )


def check_policy(policy: TopicPolicy, before: TopicPolicy) -> None:
    """Raise ``topic.sealing_fixed`` unless a topic may have this policy after the one it had."""
    if policy.sealing != before.sealing:
        raise EnsignError(
            "topic.sealing_fixed",
            "How a topic is sealed is chosen when it is made.",
            "Make another topic with the other sealing, and publish there.",
        )
