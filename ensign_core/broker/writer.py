"""The one way into a topic: batches packed, sealed and appended with the position they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from ensign_core import frame
from ensign_core.broker.vault import (
    Vault,
    about_kept,
    about_position,
    about_schema,
    encode_schema,
    now_us,
)
from ensign_core.change import Batch, Offset, Position, Stage
from ensign_core.crypto import DataKey, Sealer
from ensign_core.engine import Beside, Epoch, StaleWriteError, Write
from ensign_core.errors import EnsignError

STALE_TRIES_MAX = 50
"""How often an append is sealed at most, when its key is rotated or its topic made anew between."""

_committed_at = attrgetter("tx.committed_at")


class _Target(NamedTuple):
    key: DataKey
    sealer: Sealer


class Writer:
    """Appends batches; under every key that it seals with it has a session of its own for what is
    held and one for the rest, since what is held comes to lie behind what was sealed later.

    With a ``pipeline`` it claims that pipeline: earlier writers of it are refused from then on, and
    what they held is void. Belongs to one thread.
    """

    def __init__(self, vault: Vault, pipeline: str | None = None) -> None:
        self._vault = vault
        self._epoch: Epoch | None = vault.engine.pipelines.claim(pipeline) if pipeline else None
        self._records = vault.keys.record_sealer()
        self._targets: dict[tuple[str, bool], _Target] = {}

    def append(
        self,
        batches: Sequence[tuple[str, Batch]],
        position: Position | None = None,
        stage: Stage = Stage.NONE,
        kept: Mapping[str, bytes] | None = None,
        beside: Beside | None = None,
    ) -> list[Offset]:
        """Append each batch to its topic, all in one atomic commit with the source's ``position``
        and what it ``kept`` beside it (as `Batch.kept`; only with a position, and never held), and
        return the offset of the first event of each batch that has any, once everything, `Beside`
        too, is on the disk.

        Raises ``pipeline.fenced``, ``topic.archived``, ``grants.none`` and the engine's errors;
        then nothing was written.
        """
        filled = [(topic, batch) for topic, batch in batches if len(batch)]
        unknown = {
            schema.id: schema
            for _, batch in filled
            for schema in self._vault.unknown(batch.schemas)
        }
        boxes = {
            key: self._records.box(encode_schema(schema), about_schema(schema.id))
            for key, schema in unknown.items()
        }
        packed = [frame.pack(batch) for _, batch in filled]
        sealed_position, sealed_kept = self._seal_state(position, stage, kept or {})
        held = stage is Stage.HOLD
        for _ in range(STALE_TRIES_MAX):
            try:
                writes = self._seal_all(filled, packed, held)
                offsets = self._vault.engine.append(
                    writes, boxes, self._epoch, sealed_position, stage, sealed_kept, beside
                )
            except BaseException as error:
                # New sessions: counters of what was not written must not run ahead of the offsets.
                self._targets.clear()
                if isinstance(error, StaleWriteError):
                    continue
                raise
            self._go_on(writes, offsets)
            self._vault.remember(list(unknown.values()))
            return offsets
        raise EnsignError(
            "engine.busy",
            "Topics or keys changed under an append again and again.",
            "See what rotates keys or recreates topics; the pipeline tries again by itself.",
        )

    def _go_on(self, writes: Sequence[Write], offsets: Sequence[Offset]) -> None:
        """Let sessions seal next what comes behind these frames, as far as they have offsets."""
        for write, offset in zip(writes, offsets, strict=True):
            if offset >= 0:
                self._targets[write.topic, False].sealer.reach(offset + write.events)

    def _seal_state(
        self, position: Position | None, stage: Stage, kept: Mapping[str, bytes]
    ) -> tuple[bytes | None, dict[str, bytes]]:
        """Where the source stands and what it keeps beside that, sealed; empty pieces stay so."""
        if kept and (self._epoch is None or position is None or stage is Stage.HOLD):
            raise ValueError("pieces are kept beside a position that counts from this append on")
        if position is None or self._epoch is None:
            return None, {}
        pipeline = self._epoch.pipeline
        return self._records.box(position, about_position(pipeline)), {
            name: value and self._records.box(value, about_kept(pipeline, name))
            for name, value in kept.items()
        }

    def _look_up(self, topics: Iterable[str], held: bool) -> None:
        """Begin a session for topics that this writer has not written to yet, with the end of the
        topic as its first counter."""
        fresh = [topic for topic in dict.fromkeys(topics) if (topic, held) not in self._targets]
        if fresh:
            found = self._vault.sealers(fresh)
            reached = {t.topic_id: t.next_offset for t in self._vault.engine.topics(fresh)}
            for topic, (key, sealer) in found.items():
                sealer.reach(reached.get(key.topic_id, 0))
                self._targets[topic, held] = _Target(key, sealer)

    def _seal_all(
        self, filled: Sequence[tuple[str, Batch]], packed: Sequence[bytes], held: bool
    ) -> list[Write]:
        self._look_up([topic for topic, _ in filled], held)
        return [
            self._seal(self._targets[topic, held], topic, batch, body)
            for (topic, batch), body in zip(filled, packed, strict=True)
        ]

    def _seal(self, target: _Target, topic: str, batch: Batch, packed: bytes) -> Write:
        key, sealer = target
        first, last = _times(batch)
        header = frame.Header(
            key.topic_id, first, last, key.key_id, sealer.session, sealer.counter, len(batch), True
        ).encode()
        sealed = header + sealer.seal(packed, header)
        return Write(
            key.topic_id, topic, key.key_id, len(batch), last, sealed, frame.content_bytes(packed)
        )


def _times(batch: Batch) -> tuple[int, int]:
    """First and last commit time of a batch, that of now for what has none."""
    times = set(map(_committed_at, batch.runs))
    if None in times or not times:
        times.discard(None)
        times.add(now_us())
    return min(times), max(times)
