"""The source: a thin shell around the stream and the readers of snapshots.

All methods run on the pipeline's source thread (I1). `read` takes turns between what the stream has
sent and the chunks of snapshots.
"""

from __future__ import annotations

import time
from typing import Final

from connectors.mysql import signals
from connectors.mysql.adhoc import AdhocReader
from connectors.mysql.chunks import Opener, Piece
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.lane import Lane
from connectors.mysql.log import refused
from connectors.mysql.position import PositionWriter
from connectors.mysql.progress import ProgressTeller
from connectors.mysql.reading import SnapshotReader
from connectors.mysql.start import Starter
from connectors.mysql.stream import Stream
from connectors.mysql.watch import Warnings, Watch
from connectors.mysql.xa import Prepared, files
from ensign_core.change import Batch, Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context, State

PAUSE_S_MIN: Final = 0.001
"""The least time that `read` waits before it looks again."""

WAIT_S_MAX: Final = 0.25
"""The most that it waits before it looks for signals and other work."""


UNREAD_S_MAX: Final = 2.0
"""How long `read` may not be called before the chunk under way is given up."""


class MysqlSource:
    """Captures tables of one server. See `ensign_core.plugin.Source` for the contract."""

    def __init__(self, config: MysqlConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._starter = Starter(config, context)
        self._opener: Opener | None = None
        self._chunk_turn = False
        self._untold = False
        self._returned_whole = False
        self._returned: Position | None = None
        self._returned_at = self._read_at = 0.0

    def open(self, resume: Position | None) -> None:
        """Start where ``resume`` stands; see `connectors.mysql.start`."""
        config, context = self._config, self._context
        warnings = self._warnings = Warnings(context)
        context.progress(warnings=())
        started = self._started = self._starter.start(resume, warnings.warn)
        self._snapshots, self._tables = started.snapshots, started.tables
        self._warn_of_stopped()
        for place in started.catalog.doubled(config):
            started.tables.another(place)
        if not started.tables.structures:
            warnings.warn(error("tables_unmatched", user=self._config.user))
        prepared = Prepared(
            self._snapshots, lambda: self._starter.connect(started.server, further=True),
            lambda: files(started.query), context.pipeline,
        )  # fmt: skip
        self._stream = Stream(
            started.log, config, started.tables, started.snapshots, context, started.consumed,
            prepared, started.changes, mariadb=started.server.mariadb, place=started.place,
            partials=started.partials,
        )  # fmt: skip
        started.ahead.here = lambda: self._stream.here
        self._opener = opener = Opener(config, started.tables, self._stream, self._lane)
        self._chunks = SnapshotReader(config, started.tables, self._stream, opener)
        self._adhoc = AdhocReader(config, started.tables, self._stream, opener, context)
        self._progress = ProgressTeller(started.catalog, config, context)
        self._watch = Watch(started.query, started.server, context, warnings)
        self._writer = PositionWriter(started.server.identity, started.consumed.mode)
        self._returned_at = self._read_at = time.monotonic()
        self._untold = resume is None or bool(started.tables.changed)

    def _warn_of_stopped(self) -> None:
        for name in self._snapshots.stopped:
            self._warnings.warn(self._tables.stopped(name))

    def _lane(self) -> Lane:
        return Lane(self._config, self._context.pipeline, self._started.server)

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch: changes, rows of a snapshot, or none with a position further on (I2)."""
        self._read_at = time.monotonic()
        deadline = self._read_at + timeout_s
        while True:
            try:
                batch = self._turn(deadline)
            except EnsignError as failed:
                raise self._explained(failed) from None
            if batch is not None:
                return self._returning(batch)
            now = time.monotonic()
            if now >= deadline:
                return None
            self._started.log.wait(min(deadline - now, self._patience_s(now)))

    def _explained(self, failed: EnsignError) -> EnsignError:
        """Why a server that has sent its log sends it no more."""
        server_id = self._config.server_id
        started = self._started
        if refused(failed):
            self._starter.check_anonymous(started.server, started.place, started.target)
        if not refused(failed) or server_id is None:
            # With an id of our own choice the next start has another one.
            return error("connection_lost") if refused(failed) else failed
        return error("server_id_taken", server_id=server_id)

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
        return None if self._chunks.holding else self._heartbeat(now)

    def _streams_turn(self, deadline: float) -> Batch | None:
        stream = self._stream
        stream.gate = self._chunks.gate or self._adhoc.gate
        stream.drain(deadline if stream.gate is None else time.monotonic())
        return stream.take(self._position()) if len(stream) else None

    def _snapshots_turn(self, deadline: float) -> Batch | None:
        """Rows of the tables whose snapshot is under way; else of what operators asked for."""
        now = time.monotonic()
        stream, snapshots = self._stream, self._snapshots
        if len(stream):
            return None
        self._adhoc.heed(snapshots)
        piece = None
        if not self._adhoc.busy and self._chunks.due(snapshots, now):
            piece = self._chunks.step(snapshots, deadline)
        elif not self._chunks.busy and self._adhoc.due(snapshots, now):
            piece = self._adhoc.step(snapshots, deadline)
            self._untold = self._untold or not snapshots.asked
            if self._adhoc.failed is not None:
                failed, self._adhoc.failed = self._adhoc.failed, None
                self._warnings.warn(error("adhoc_failed", failed=failed.sentence))
        elif self._opener is not None and not snapshots.pending:
            self._opener.close()
        return self._of_piece(piece) if piece is not None else None

    def _of_piece(self, piece: Piece) -> Batch:
        """A batch of snapshot rows; what is held leaves the position where it was."""
        return piece.batch(self._position())

    def _heartbeat(self, now: float) -> Batch | None:
        """An empty batch where the position has moved past changes that nobody captures, or says
        something new."""
        if self._stream.in_transaction or len(self._stream):
            return None
        whole = self._whole() and not self._returned_whole
        due = now - self._returned_at >= self._config.heartbeat_s
        if not (whole or self._untold or due):
            return None
        position = self._position()
        if position == self._returned and not whole and not self._tables.changed:
            self._returned_at, self._untold = now, False
            return None
        return Batch(position=position)

    def _position(self) -> Position:
        stream = self._stream
        return self._writer.encode(
            stream.place, stream.consumed.text, stream.partials, self._snapshots, stream.made_s
        )

    def _returning(self, batch: Batch) -> Batch:
        """Note where the batch stands, and tell."""
        if not self._chunks.holding:
            batch.kept, self._tables.changed = self._tables.changed, {}
        self._returned_at = time.monotonic()
        self._returned = batch.position
        self._returned_whole = self._returned_whole or self._whole()
        self._untold = False
        state: State = "snapshot" if self._snapshots.tables else "streaming"
        self._context.progress(state=state, position=str(self._stream.place))
        if not self._snapshots.pending:
            # Who asked for no more than that calls nothing afterwards.
            self._progress.tell(self._snapshots, self._returned_at)
        return batch

    def _whole(self) -> bool:
        """Whether the stream is past everything that was there when `open` was called, but for
        snapshots that an operator has paused."""
        stream = self._stream
        there = stream.settled and stream.place.order >= self._started.target.order
        return there and not len(stream) and not self._snapshots.pending

    def _tick(self, now: float) -> None:
        """What is done from time to time while `read` is called."""
        if self._chunks.holding:
            return
        self._take_signals()
        if self._tables.structures:
            self._warnings.clear("mysql.tables_unmatched")
        self._watch.look(self._stream, now)
        self._progress.tell(self._snapshots, now)

    def _take_signals(self) -> None:
        """Take in what operators ask for."""
        asked = self._context.signals(self._snapshots.signal)
        if not asked:
            return
        before = self._snapshots.paused
        stopped = len(self._snapshots.stopped)
        failures = signals.take_in(self._tables, self._snapshots, asked)
        if len(self._snapshots.stopped) < stopped:
            self._warnings.clear()
            self._warn_of_stopped()
            self._stream.routes.reconsider()
        for failed in failures:
            self._warnings.warn(failed)
        if self._snapshots.paused and not before:
            self._chunks.abandon()
            self._adhoc.abandon()
        self._untold = True

    def _patience_s(self, now: float) -> float:
        """How long `read` may wait for the stream before something else is to be looked at."""
        times = [self._returned_at + self._config.heartbeat_s, now + WAIT_S_MAX]
        snapshots = self._snapshots
        if self._chunks.busy or self._adhoc.busy:
            times.append(now)
        elif not snapshots.paused:
            if snapshots.tables:
                times.append(self._chunks.wake_at())
            if snapshots.asked:
                times.append(self._adhoc.wake_at())
        return max(PAUSE_S_MIN, min(times) - now)

    def ack(self, position: Position) -> None:
        """Everything up to ``position`` is durable (I5). The server keeps its log by its own rules
        and is told nothing; the connection is kept by its heartbeats, which wait in the socket
        while nobody reads (I4). Where nobody does for long, no chunk stays open: its transaction
        would keep statements about its table waiting, and all who wait behind them."""
        if time.monotonic() - self._read_at > UNREAD_S_MAX and not self._chunks.holding:
            self._chunks.abandon()
            self._adhoc.rest()

    def caught_up(self) -> bool:
        """See `ensign_core.plugin.Source`: the last position returned has passed the log's end at
        `open`, and every snapshot is read."""
        return self._returned_whole

    def close(self) -> None:
        """Close all connections; the server ends the dump when it notices."""
        if self._opener is not None:
            self._opener.close()
        if self._starter.ahead is not None:
            self._starter.ahead.close()
        if self._starter.log is not None:
            self._starter.log.close()
        if self._starter.query is not None:
            self._starter.query.close()
