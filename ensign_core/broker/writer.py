"""The one way into a topic: batches packed, sealed and appended with the position they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensign_core import frame
from ensign_core.broker.vault import Vault, about_position, about_schema, encode_schema, now_us
from ensign_core.change import Batch, Offset, Position, Stage
from ensign_core.crypto import DataKey, Sealer
from ensign_core.engine import Epoch, StaleWriteError, Write
from ensign_core.errors import EnsignError

STALE_TRIES_MAX = 5


@dataclass(frozen=True)
class _Target:
    topic_id: bytes
    key: DataKey
    sealer: Sealer


class Writer:
    """Appends batches; a session of its own under every key that it seals with.

    With a ``pipeline`` it claims that pipeline: earlier writers of it are refused from then on, and
    what they held is void. Belongs to one thread.
    """

    def __init__(self, vault: Vault, pipeline: str | None = None) -> None:
        self._vault = vault
        self._epoch: Epoch | None = vault.engine.claim(pipeline) if pipeline else None
        self._records = vault.keys.record_sealer()
        self._targets: dict[str, _Target] = {}

    def append(
        self,
        batches: Sequence[tuple[str, Batch]],
        position: Position | None = None,
        stage: Stage = Stage.NONE,
    ) -> list[Offset]:
        """Append each batch to its topic, all in one atomic commit with the source's ``position``,
        and return the offset of the first event of each batch that has any, once everything is
        on the disk.

        Raises ``pipeline.fenced``, ``topic.archived`` and the engine's errors; then nothing was
        written.
        """
        filled = [(topic, batch) for topic, batch in batches if len(batch)]
        unknown = {
            schema.id: schema
            for _, batch in filled
            for schema in self._vault.unknown(batch.schemas)
        }
        boxes = {
            key: self._records.box(encode_schema(schema), about_schema(schema))
            for key, schema in unknown.items()
        }
        packed = [frame.pack(batch) for _, batch in filled]
        sealed_position = None
        if position is not None and self._epoch is not None:
            about = about_position(self._epoch.pipeline)
            sealed_position = self._records.box(position, about)
        for _ in range(STALE_TRIES_MAX):
            writes = [
                self._seal(topic, batch, body)
                for (topic, batch), body in zip(filled, packed, strict=True)
            ]
            try:
                offsets = self._vault.engine.append(
                    writes, boxes, self._epoch, sealed_position, stage
                )
            except StaleWriteError:
                self._targets.clear()
                continue
            self._vault.remember(list(unknown.values()))
            return offsets
        raise EnsignError(
            "engine.busy",
            "Topics or keys changed under an append again and again.",
            "See what rotates keys or recreates topics; the pipeline tries again by itself.",
        )

    def _seal(self, topic: str, batch: Batch, packed: bytes) -> Write:
        target = self._targets.get(topic)
        if target is None:
            topic_id = self._vault.topic_id(topic)
            key = self._vault.active_key(topic_id)
            target = _Target(topic_id, key, self._vault.keys.frame_sealer(key))
            self._targets[topic] = target
        first, last = _times(batch)
        sealer = target.sealer
        header = frame.Header(
            target.topic_id, first, last, target.key.key_id, sealer.session, sealer.counter,
            len(batch),
        ).encode()  # fmt: skip
        sealed = header + sealer.seal(packed, header)
        return Write(target.topic_id, topic, target.key.key_id, len(batch), first, last, sealed)


def _times(batch: Batch) -> tuple[int, int]:
    """First and last commit time of a batch, that of now for what has none."""
    times = [run.tx.committed_at for run in batch.runs]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or not known:
        known.append(now_us())
    return min(known), max(known)
