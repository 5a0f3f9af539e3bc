"""Giving a topic another policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ensign_core.broker.duplicates import Hasher
from ensign_core.broker.events import received
from ensign_core.broker.large.claim import is_part
from ensign_core.broker.policy import Deduplication, TopicPolicy, check_policy
from ensign_core.broker.vault import Vault
from ensign_core.change import Offset
from ensign_core.engine import Stored, Topic
from ensign_core.errors import EnsignError

SEED_BYTES_MAX = 4 << 20
"""Sealed bytes of frames that are hashed at a time."""

SEED_ROUNDS_MAX = 1000
"""How often events are hashed that came while others were."""


def set_policy(
    vault: Vault,
    topic: Topic,
    policy: TopicPolicy,
    box: Callable[[bytes, TopicPolicy], bytes],
) -> None:
    """Replace a topic's policy; ``box`` seals one for a topic's id. Raises ``topic.sealing_fixed``,
    ``engine.busy``."""
    before = vault.policy(topic)
    check_policy(policy, before)
    topic_id = topic.topic_id
    new, sealed = policy.deduplication, box(topic_id, policy)
    if new == before.deduplication:
        vault.engine.set_policy(topic_id, sealed)
        return
    mark = None
    if new.strategy == "none":
        vault.engine.set_policy(topic_id, sealed)
    else:
        mark = _seed(vault, topic, new, sealed)
    vault.engine.publishing.keep_hashes(topic_id, mark)


def _seed(vault: Vault, topic: Topic, policy: Deduplication, sealed: bytes) -> bytes:
    """Hash the events that there are, and give the topic its policy when none is left, so that no
    event comes between the two. Returns the mark of the hashes."""
    hasher = Hasher(vault.keys.fingerprinter(), topic.topic_id, policy)
    end: Offset = 0
    for _ in range(SEED_ROUNDS_MAX):
        end = _seed_from(vault, topic, hasher, end)
        if vault.engine.publishing.seeded(topic.topic_id, sealed, end):
            return hasher.mark
        if topic.name not in vault.engine.topic_ids([topic.name]):
            break
    raise EnsignError(
        "engine.busy",
        f"The topic {topic.name} takes events faster than they can be compared.",
        "Set the policy when less is published.",
    )


def _seed_from(vault: Vault, topic: Topic, hasher: Hasher, start: Offset) -> Offset:
    """Remember the hashes of a topic's events from an offset on; the next one."""
    engine, topic_id = vault.engine, topic.topic_id
    (end,) = [t.next_offset for t in engine.topics([topic.name]) if t.topic_id == topic_id] or [0]
    after = (engine.sequence_at(topic_id, start) or engine.last_sequence() + 1) - 1
    while stored := engine.frames([topic_id], after, SEED_BYTES_MAX):
        hashes = [pair for frame in stored for pair in _hashes(vault, topic, hasher, frame)]
        engine.publishing.seed(topic_id, hashes, latest=hasher.policy.keep == "latest")
        after = stored[-1].sequence
        end = max(end, stored[-1].offset + stored[-1].events)
    return end


def _hashes(
    vault: Vault, topic: Topic, hasher: Hasher, stored: Stored
) -> Iterator[tuple[bytes, Offset]]:
    """Those of the events in a frame but parts of large ones; none if its key was revoked."""
    try:
        batch = vault.open_frame(stored, topic.name)
    except EnsignError as error:
        if error.code == "key.revoked":
            return
        raise
    for one in received(batch):
        if one.event is None or is_part(one.event):
            continue
        key = hasher(one.event)
        if key is not None:
            yield key, one.offset
