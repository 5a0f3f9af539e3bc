"""The source: a thin shell around the stream and the chunk reader.

All methods run on the pipeline's source thread (I1). `read` takes turns between what the stream has
sent and one chunk of a snapshot.
"""

from __future__ import annotations

import time
from array import array
from itertools import accumulate
from typing import Final

from connectors.postgres import catalog
from connectors.postgres.chunks import ChunkReader, Piece
from connectors.postgres.config import PostgresConfig
from connectors.postgres.pgoutput import lsn_text
from connectors.postgres.position import PositionWriter, Snapshots, confirmed_lsn
from connectors.postgres.relations import Relations
from connectors.postgres.start import Starter
from connectors.postgres.stream import Stream
from connectors.postgres.watch import Watch
from ensign_core.change import Batch, Op, Position, Run, Tx
from ensign_core.plugin import Context, State

FEEDBACK_S_MIN: Final = 0.05
"""The least time between two status updates while batches are acked."""

KEEPALIVE_S_MIN: Final = 0.5
"""The least time between two status updates that say nothing new."""

UNREAD_S: Final = 5.0
"""How long after the last call of `read` the slot is watched by `ack`, which must not wait for a
server that has become silent while the stream can notice that sooner."""

PAUSE_S_MIN: Final = 0.001
"""The least time that `read` waits before it looks again."""


class PostgresSource:
    """Captures tables of one database. See `ensign_core.plugin.Source` for the contract."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._starter = Starter(config, context)
        self._snapshots = Snapshots()
        self._target = 0
        self._returned_lsn = 0
        self._returned_whole = False
        self._returned_at = 0.0
        self._read_at = 0.0
        self._unfed = False
        self._chunk_turn = False

    def open(self, resume: Position | None) -> None:
        """Start where ``resume`` stands; see `connectors.postgres.start`."""
        config = self._config
        starter = self._starter
        started = starter.start(resume)
        self._snapshots = started.snapshots
        self._target = started.target
        types = catalog.Types(started.query)
        relations = Relations(
            started.query, config, self._snapshots, database=started.server.database, types=types
        )
        self._chunks = ChunkReader(
            started.query, config, database=started.server.database,
            publication=starter.publication, types=types, wal_page=started.server.wal_page,
        )  # fmt: skip
        self._writer = PositionWriter(started.origin)
        self._stream = Stream(
            started.replication, config, relations, self._snapshots, self._context,
            lsn=started.lsn, partial=started.partial, acked=started.acked,
        )  # fmt: skip
        now = time.monotonic()
        self._watch = Watch(started, config, self._context, starter.publication, now)
        self._returned_lsn = started.acked
        self._returned_at = self._read_at = now

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch: changes, rows of a snapshot, or none with a position further on (I2)."""
        self._read_at = time.monotonic()
        deadline = self._read_at + timeout_s
        while True:
            batch = self._turn(deadline)
            if batch is not None:
                return self._returning(batch)
            now = time.monotonic()
            if now >= deadline:
                return None
            self._wait(min(deadline - now, self._patience_s(now)))

    def _turn(self, deadline: float) -> Batch | None:
        """What can be had now: of the stream, of a snapshot, or a heartbeat."""
        if self._config.snapshot == "only" and self._returned_whole:
            return None
        stream = self._stream
        now = time.monotonic()
        self._tick(now)
        for _ in range(2):
            self._chunk_turn = not self._chunk_turn
            if self._chunk_turn or self._chunks.busy:
                if self._chunks.due(self._snapshots, now):
                    piece = self._chunks.step(self._snapshots, deadline)
                    stream.unwatched()
                    if piece is not None:
                        return self._of_piece(piece)
            else:
                stream.drain(deadline)
                if len(stream):
                    return stream.take(self._position())
        if self._chunks.holding:
            return None
        return self._heartbeat(now)

    def _heartbeat(self, now: float) -> Batch | None:
        """An empty batch where the position has moved past changes that nobody captures."""
        stream = self._stream
        if stream.in_transaction:
            return None
        whole = self._whole(stream.lsn) and not self._returned_whole
        due = stream.asked or now - self._returned_at >= self._config.heartbeat_s
        if whole or (due and stream.lsn > self._returned_lsn):
            stream.asked = False
            return Batch(position=self._position())
        return None

    def _position(self) -> Position:
        return self._writer.encode(self._stream.lsn, self._stream.partial, self._snapshots)

    def _returning(self, batch: Batch) -> Batch:
        """Note where the batch stands, and tell."""
        lsn = self._stream.lsn
        self._returned_at = time.monotonic()
        self._returned_lsn = lsn
        self._returned_whole = self._returned_whole or self._whole(lsn)
        state: State = "snapshot" if self._snapshots.tables else "streaming"
        self._context.progress(state=state, position=lsn_text(lsn))
        return batch

    def _of_piece(self, piece: Piece) -> Batch:
        """A batch of snapshot rows; where they are held, it leaves the position where it was."""
        self._stream.settle()
        bodies = [b"", *piece.bodies] if piece.wipe else piece.bodies
        count = len(bodies)
        ops = bytearray(count)
        if piece.wipe:
            ops[0] = Op.TRUNCATE
        # While rows are held the stream is not read and the table stays unread: no step forward.
        position = self._position()
        runs = [Run(0, piece.ordinal, Tx(None, lsn_text(piece.lsn), None))] if count else []
        return Batch(
            ops, array("H", bytes(2 * count)), array("I", accumulate(map(len, bodies))),
            b"".join(bodies), runs, [piece.schema] if count else [], position, piece.stage,
        )  # fmt: skip

    def _whole(self, lsn: int) -> bool:
        """Whether a position at ``lsn`` has everything that was there when `open` was called."""
        return lsn >= self._target and not self._snapshots.tables

    def _tick(self, now: float) -> None:
        """What is done from time to time while `read` is called."""
        self._stream.tend()
        if self._chunks.busy:
            return
        if self._watch.discover(now):
            self._stream.reroute()
        self._watch.lag(now, self._stream)
        idle = not self._returned_whole and self._chunks.idle(self._snapshots)
        self._watch.nudge(now, wanted=idle and self._stream.lsn < self._needed_lsn())

    def _needed_lsn(self) -> int:
        """The LSN that the stream has to pass for `caught_up`."""
        chunks = [as_of.lsn for t in self._snapshots.tables.values() for as_of in t.chunks]
        points = [a.lsn for t in self._snapshots.tables.values() for a in t.points.values() if a]
        return max(self._target, *chunks, *points, 0)

    def _wait(self, timeout_s: float) -> None:
        """Block until something comes, having told the server what is durable."""
        if self._unfed:
            self._feed()
        over = self._config.snapshot == "only" and self._returned_whole
        session = self._starter.query if over else self._starter.replication
        assert session is not None
        session.wait(timeout_s)

    def _patience_s(self, now: float) -> float:
        """How long `read` may wait for the stream before something else is to be looked at."""
        watch = self._watch
        times = [watch.discover_at, self._returned_at + self._config.heartbeat_s, now + 1.0]
        if not self._chunks.idle(self._snapshots):
            times.append(self._chunks.wake_at(self._snapshots))
        if not self._returned_whole:
            times.append(watch.nudge_at)
        return max(PAUSE_S_MIN, min(times) - now)

    def ack(self, position: Position) -> None:
        """Everything up to ``position`` is durable (I5): confirm its last complete transaction.
        The keep-alive too (I4). Reads no changes."""
        stream = self._stream
        lsn = confirmed_lsn(position)
        if lsn > stream.acked:
            stream.acked = lsn
            self._unfed = True
        if stream.fed_ago_s >= (FEEDBACK_S_MIN if self._unfed else KEEPALIVE_S_MIN):
            self._feed()
        now = time.monotonic()
        if now - self._read_at >= UNREAD_S and not self._chunks.busy:
            # While a full topic keeps `read` from being called, the slot keeps most.
            self._watch.lag(now, stream)

    def _feed(self) -> None:
        self._unfed = False
        self._stream.feed()

    def caught_up(self) -> bool:
        """See `ensign_core.plugin.Source`: the last position returned has passed the log's end at
        `open`, and every snapshot is read and passed by the stream."""
        return self._returned_whole

    def close(self) -> None:
        """Close both connections; the server frees the slot when it notices."""
        starter = self._starter
        for session in (starter.replication, starter.query):
            if session is not None:
                session.close()
        starter.query = starter.replication = None
