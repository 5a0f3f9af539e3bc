"""The source: a thin shell around the stream and the readers of snapshots.

All methods run on the pipeline's source thread (I1). `read` takes turns between what the stream has
sent and the chunks of snapshots.
"""

from __future__ import annotations

import time
from array import array
from typing import Final

from connectors.postgres import catalog, signals, wal
from connectors.postgres.adhoc import AdhocReader
from connectors.postgres.chunks import Opener, Piece
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.lanes import Lanes
from connectors.postgres.pgoutput import lsn_text
from connectors.postgres.position import PositionWriter, Snapshots, confirmed_lsn
from connectors.postgres.progress import ProgressTeller
from connectors.postgres.reading import SnapshotReader
from connectors.postgres.relations import Relations
from connectors.postgres.session import Session
from connectors.postgres.snapshot import Visible
from connectors.postgres.start import Starter
from connectors.postgres.stream import Stream
from connectors.postgres.watch import Watch
from ensign_core.change import Batch, Op, Position, Run, Tx
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context, State

FEEDBACK_S_MIN: Final = 0.05
"""The least time between two status updates while batches are acked."""

KEEPALIVE_S_MIN: Final = 0.5
"""The least time between two status updates that say nothing new."""

ASK_S: Final = 0.02
"""How often the server is asked how far it has sent, while rows wait for that."""

SEEN_MAX: Final = 10_000
"""Transactions remembered after which those that every snapshot sees are forgotten."""

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
        self._lanes = Lanes(lambda: Session(config, context.pipeline), config.workers)
        self._snapshots = Snapshots()
        self._target = 0
        self._returned_lsn = 0
        self._returned_whole = False
        self._returned_at = 0.0
        self._read_at = 0.0
        self._unfed = False
        self._chunk_turn = False
        self._untold = False
        self._asked_at = 0.0

    def open(self, resume: Position | None) -> None:
        """Start where ``resume`` stands; see `connectors.postgres.start`."""
        config, context = self._config, self._context
        starter = self._starter
        started = starter.start(resume)
        query, server = started.query, started.server
        self._snapshots = started.snapshots
        self._target = started.target
        types = catalog.Types(query)
        relations = Relations(query, config, self._snapshots, database=server.database, types=types)
        opener = Opener(query, config, server, starter.publication, types)
        self._chunks = SnapshotReader(query, config, opener, self._lanes)
        self._adhoc = AdhocReader(query, config, opener, self._lanes, context)
        self._progress = ProgressTeller(query, context)
        self._query = query
        self._writer = PositionWriter(started.origin)
        self._stream = Stream(
            started.replication, config, relations, self._snapshots, context,
            lsn=started.lsn, partial=started.partial, acked=started.acked, wal_page=server.wal_page,
        )  # fmt: skip
        if started.acked:
            self._stream.seen = wal.hidden(query)
        now = time.monotonic()
        self._watch = Watch(started, config, context, starter.publication, now)
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
        now = time.monotonic()
        self._tick(now)
        for _ in range(2):
            self._chunk_turn = not self._chunk_turn
            turn = self._snapshots_turn if self._chunk_turn else self._streams_turn
            batch = turn(deadline)
            if batch is not None:
                return batch
        if self._chunks.holding:
            return None
        return self._heartbeat(now)

    def _streams_turn(self, deadline: float) -> Batch | None:
        stream = self._stream
        stream.gate = self._adhoc.gate
        if self._chunks.exclusive:
            stream.unwatched()
            return None
        stream.drain(deadline)
        return stream.take(self._position()) if len(stream) else None

    def _snapshots_turn(self, deadline: float) -> Batch | None:
        """Rows of the tables whose snapshot is under way; else of what operators asked for."""
        now = time.monotonic()
        stream, snapshots = self._stream, self._snapshots
        self._adhoc.heed(snapshots)
        piece = None
        if self._adhoc.gate is None and self._chunks.due(snapshots, now):
            piece = self._chunks.step(snapshots, deadline)
        elif self._adhoc.due(snapshots, now):
            self._adhoc.reached = stream.at_gate
            piece = self._adhoc.step(snapshots, stream.seen, deadline)
            if not snapshots.asked:
                self._untold = True
            if self._adhoc.failed is not None:
                self._report(self._adhoc.failed)
        elif not (self._chunks.busy or self._adhoc.busy):
            self._lanes.rest()
        return self._of_piece(piece) if piece is not None else None

    def _report(self, failed: EnsignError) -> None:
        self._adhoc.failed = None
        self._watch.warn(error("adhoc_failed", failed=failed.code))

    def _heartbeat(self, now: float) -> Batch | None:
        """An empty batch where the position has moved past changes that nobody captures, or says
        something new."""
        stream = self._stream
        if stream.in_transaction:
            return None
        whole = self._whole(stream.lsn) and not self._returned_whole
        due = stream.asked or now - self._returned_at >= self._config.heartbeat_s
        if whole or self._untold or (due and stream.lsn > self._returned_lsn):
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
        self._untold = False
        state: State = "snapshot" if self._snapshots.tables else "streaming"
        self._context.progress(state=state, position=lsn_text(lsn))
        return batch

    def _of_piece(self, piece: Piece) -> Batch:
        """A batch of snapshot rows; where they are held, it leaves the position where it was."""
        stream = self._stream
        stream.settle()
        for line in piece.damaged:
            self._context.dead_letter(line, error("row_damaged", table=piece.schema.name))
        ops = bytearray([piece.op]) * len(piece.ends)
        leading = bytearray()
        if piece.wipe:
            leading.append(Op.TRUNCATE)
        if ops and piece.op is Op.SNAPSHOT and stream.structure(piece.oid, piece.schema):
            leading.append(Op.SCHEMA)
        ends = array("I", bytes(4 * len(leading))) + piece.ends
        # While rows are held the stream is not read and the table stays unread: no step forward.
        position = self._position()
        tx = Tx(None, lsn_text(piece.lsn or stream.lsn), None)
        runs = [Run(0, piece.ordinal, tx)] if ends else []
        return Batch(
            leading + ops, array("H", bytes(2 * len(ends))), ends, piece.body, runs,
            [piece.schema] if ends else [], position, piece.stage,
        )  # fmt: skip

    def _whole(self, lsn: int) -> bool:
        """Whether a position at ``lsn`` has everything that was there when `open` was called, but
        for snapshots that an operator has paused."""
        snapshots = self._snapshots
        pending = not snapshots.paused and (snapshots.tables or snapshots.asked)
        return lsn >= self._target and not pending

    def _tick(self, now: float) -> None:
        """What is done from time to time while `read` is called."""
        stream = self._stream
        stream.tend()
        if self._chunks.holding:
            return
        self._take_signals()
        if self._watch.discover(now):
            stream.reroute()
        self._watch.lag(now, stream)
        self._progress.tell(self._snapshots, now)
        self._forget_seen()
        if stream.gate is not None and not stream.at_gate and now - self._asked_at >= ASK_S:
            self._asked_at = now
            stream.feed(ask=True)
        idle = not self._returned_whole and self._chunks.idle(self._snapshots)
        waiting = (idle and stream.lsn < self._needed_lsn()) or stream.gate is not None
        self._watch.nudge(now, wanted=waiting)

    def _take_signals(self) -> None:
        """Take in what operators ask for."""
        asked = self._context.signals(self._snapshots.signal)
        if not asked:
            return
        before = self._snapshots.paused
        for failed in signals.take_in(self._query, self._config, self._snapshots, asked):
            self._watch.warn(failed)
        if self._snapshots.paused and not before:
            self._chunks.abandon()
            self._adhoc.abandon()
        self._untold = True

    def _forget_seen(self) -> None:
        """Forget transactions that every snapshot sees from now on."""
        stream = self._stream
        if len(stream.seen) <= SEEN_MAX:
            return
        rows = self._query.rows("SELECT pg_current_snapshot()", doing="reading the snapshot")
        visible = Visible.parse(str(rows[0][0]))
        stream.seen = {xid for xid in stream.seen if not visible.sees(xid)}

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
        times = [watch.discover_at, self._returned_at + self._config.heartbeat_s, now + 0.25]
        if not self._chunks.idle(self._snapshots):
            times.append(self._chunks.wake_at(self._snapshots))
        if self._snapshots.asked and not self._snapshots.paused:
            times.append(max(self._adhoc.wake_at(), now + PAUSE_S_MIN))
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
        """Close all connections; the server frees the slot when it notices."""
        self._lanes.close()
        starter = self._starter
        for session in (starter.replication, starter.query):
            if session is not None:
                session.close()
        starter.query = starter.replication = None
