"""The source: a thin shell around the stream and the chunk reader.

All methods run on the pipeline's source thread (I1). `read` takes turns between what the stream has
sent and one chunk of a snapshot.
"""

from __future__ import annotations

import time
from array import array
from itertools import accumulate
from typing import Final

from connectors.postgres import catalog, slot
from connectors.postgres.chunks import ChunkReader, Piece
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_text, lsn_value
from connectors.postgres.position import (
    Origin,
    PositionWriter,
    Snapshots,
    Standpoint,
    confirmed_lsn,
    decode,
)
from connectors.postgres.relations import Relations, current_xmax
from connectors.postgres.session import Session, literal, quoted
from connectors.postgres.snapshot import TableSnapshot
from connectors.postgres.stream import Stream
from ensign_core.change import Batch, Op, Position, Run, Stage, Tx
from ensign_core.plugin import Context

FEEDBACK_S_MIN: Final = 0.05
"""The least time between two status updates while batches are acked."""

NUDGE_S: Final = 0.2
"""How long a source that waits for the log's end lets an idle server be silent: then it writes a
message of its own, since what is in the log but not flushed is not sent."""

LAG_S: Final = 2.0
"""How often the log's end is asked for while changes come."""

MESSAGE_PREFIX: Final = "ensign"


class PostgresSource:
    """Captures tables of one database. See `ensign_core.plugin.Source` for the contract."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._slot = config.slot_name(context.pipeline)
        self._publication = config.publication_name(context.pipeline)
        self._query: Session | None = None
        self._replication: Session | None = None
        self._snapshots = Snapshots()
        self._target = 0
        self._returned_lsn = 0
        self._returned_whole = False
        self._returned_at = 0.0
        self._nudge_at = self._lag_at = self._discover_at = 0.0
        self._unfed = False
        self._chunk_turn = False

    def open(self, resume: Position | None) -> None:
        """Connect, look, make publication and slot where this is the start, and start streaming.
        Raises the errors of `connectors.postgres.errors`."""
        stood = decode(resume) if resume is not None else None
        config, pipeline = self._config, self._context.pipeline
        self._query = query = Session(config, pipeline)
        server = catalog.server(query)
        slot.check_server(server)
        self._replication = replication = _replication_session(config, pipeline, server)
        system = replication.simple("IDENTIFY_SYSTEM", doing="identifying the server")
        self._origin = Origin(str(system[0][0]), server.database, self._slot)
        self._wal_page = server.wal_page
        self._types = catalog.Types(query)
        start = self._prepare(query, server, stood)
        self._target = catalog.end_lsn(query, server.wal_page)
        names = {"database": server.database, "publication": self._publication}
        relations = Relations(query, config, self._snapshots, types=self._types, **names)
        self._chunks = ChunkReader(
            query, config, types=self._types, wal_page=server.wal_page, **names
        )
        self._writer = PositionWriter(self._origin)
        self._start(replication, start)
        partial = stood.partial if stood else None
        acked = start if stood else 0
        self._stream = Stream(
            replication, config, relations, self._snapshots,
            lsn=start, partial=partial, acked=acked,
        )  # fmt: skip
        now = time.monotonic()
        self._returned_lsn = start if stood else 0
        self._returned_at = now
        self._nudge_at = now + NUDGE_S
        self._discover_at = now + config.discover_s

    def _prepare(self, query: Session, server: catalog.Server, stood: Standpoint | None) -> int:
        """Publication, slot and snapshot state; the LSN to start at."""
        config = self._config
        found = slot.find_slot(query, self._slot)
        if stood is not None:
            slot.check_continuation(query, stood, found, self._origin)
            self._snapshots = stood.snapshots
        if found is not None:
            slot.check_slot(found, self._origin)
        wanted = slot.captured_tables(query, config)
        if config.snapshot != "never":
            unreadable = next((t for t in wanted if not t.readable), None)
            if unreadable is not None:
                raise error("select_privilege", user=server.user, table=unreadable.full_name)
        slot.ensure_publication(query, self._publication, wanted)
        if found is None:
            start = slot.make_slot(query, self._slot, server, failover=config.failover)
        else:
            start = found.confirmed if stood is None else stood.lsn
        if stood is None and config.snapshot == "never":
            self._snapshots.done.update(table.oid for table in wanted)
        self._expect(query, wanted, fresh=found is None)
        return start

    def _expect(self, query: Session, wanted: list[catalog.Table], *, fresh: bool) -> None:
        """Take up tables that are new to the position. Unless the slot was made after they were
        published, transactions that wrote to them before that may still run."""
        snapshots = self._snapshots
        new = [t.oid for t in wanted if t.oid not in snapshots.done]
        new = [
            oid for oid in new if oid not in snapshots.tables or not snapshots.tables[oid].begun
        ]
        bound = current_xmax(query) if new and not fresh else None
        for oid in new:
            table = snapshots.tables.setdefault(oid, TableSnapshot(oid))
            table.bound = bound

    def _start(self, replication: Session, lsn: int) -> None:
        publication = literal(quoted(self._publication))
        state = replication.simple(
            f"START_REPLICATION SLOT {quoted(self._slot)} LOGICAL {lsn_text(lsn)} "
            f"(proto_version '1', publication_names {publication})",
            doing="starting to stream",
            tolerate=("55006", "55000"),
        )
        if state == "55006":
            raise error("slot_in_use", slot=self._slot, pid="(unknown)", application="another")
        if isinstance(state, str):
            raise error("slot_lost", slot=self._slot)

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch: changes, rows of a snapshot, or none with a position further on (I2)."""
        deadline = time.monotonic() + timeout_s
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
        due = now - self._returned_at >= self._config.heartbeat_s
        if whole or (due and stream.lsn > self._returned_lsn):
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
        state = "snapshot" if self._snapshots.tables else "streaming"
        self._context.progress(state=state, position=lsn_text(lsn))  # type: ignore[arg-type]
        return batch

    def _of_piece(self, piece: Piece) -> Batch:
        """A batch of snapshot rows; where they are held, it leaves the position where it was."""
        self._stream.settle()
        bodies = [b"", *piece.bodies] if piece.wipe else piece.bodies
        count = len(bodies)
        ops = bytearray(count)
        if piece.wipe:
            ops[0] = Op.TRUNCATE
        if piece.stage is Stage.HOLD:
            position = self._held_position
        else:
            position = self._position()
        runs = [Run(0, piece.ordinal, Tx(None, lsn_text(piece.lsn), None))] if count else []
        return Batch(
            ops, array("H", bytes(2 * count)), array("I", accumulate(map(len, bodies))),
            b"".join(bodies), runs, [piece.schema] if count else [], position, piece.stage,
        )  # fmt: skip
