"""The source: a thin shell around the stream and the chunk reader.

All methods run on the pipeline's source thread (I1). `read` takes turns between what the stream has
sent and one chunk of a snapshot.
"""

from __future__ import annotations

import time
from array import array
from itertools import accumulate
from typing import Final

from connectors.postgres import catalog, discovery, slot
from connectors.postgres.chunks import LOCK_MS_MAX, ChunkReader, Piece
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
from connectors.postgres.publication import check_publication, ensure_publication
from connectors.postgres.relations import Relations
from connectors.postgres.session import Session, literal, quoted
from connectors.postgres.stream import Stream
from ensign_core.change import Batch, Op, Position, Run, Tx
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context, State

FEEDBACK_S_MIN: Final = 0.05
"""The least time between two status updates while batches are acked."""

NUDGE_S: Final = 0.2
"""How long a source that waits for the log's end lets an idle server be silent: then it writes a
message of its own, since what is in the log but not flushed is not sent."""

KEEPALIVE_S_MIN: Final = 0.5
"""The least time between two status updates that say nothing new."""

PAUSE_S_MIN: Final = 0.001
"""The least time that `read` waits before it looks again."""

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
        for session in (query, replication):
            session.facts |= {"slot": self._slot, "publication": self._publication}
        origin = Origin(str(system[0][0]), server.database, self._slot, 0, int(str(system[0][1])))
        start = self._prepare(query, server, origin, stood)
        self._types = catalog.Types(query)
        self._target = catalog.end_lsn(query, server.wal_page)
        relations = Relations(
            query, config, self._snapshots, database=server.database, types=self._types
        )
        self._chunks = ChunkReader(
            query, config, database=server.database, publication=self._publication,
            types=self._types, wal_page=server.wal_page,
        )  # fmt: skip
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

    def _prepare(
        self, query: Session, server: catalog.Server, origin: Origin, stood: Standpoint | None
    ) -> int:
        """Publication, slot and snapshot state; the LSN to start at."""
        config, name = self._config, self._publication
        found = slot.find_slot(query, self._slot)
        if stood is not None:
            slot.check_continuation(query, stood, found, origin)
            self._snapshots = stood.snapshots
        if found is not None:
            slot.check_slot(found, origin)
        snapshots = self._snapshots
        listed = catalog.tables(query)
        wanted = slot.captured_tables(listed, config)
        if config.snapshot != "never":
            unreadable = next((t for t in wanted if not t.readable), None)
            if unreadable is not None:
                raise error("select_privilege", user=server.user, table=unreadable.full_name)
        discovery.leave_out(listed, config, snapshots)
        if stood is not None:
            known = discovery.known(wanted, snapshots)
            check_publication(query, name, stood.origin.publication, known, snapshots)
        published = ensure_publication(query, name, wanted, patient=True)
        self._origin = origin._replace(publication=published.oid)
        if found is None:
            start = slot.make_slot(query, self._slot, server, failover=config.failover)
        else:
            start = found.confirmed if stood is None else stood.lsn
        if stood is None and config.snapshot == "never":
            snapshots.done.update(table.oid for table in wanted)
        discovery.take_up(query, published, wanted, snapshots, fresh=found is None)
        query.simple(f"SET lock_timeout = {LOCK_MS_MAX}", doing="setting the connection up")
        return start

    def _start(self, replication: Session, lsn: int) -> None:
        publication = literal(quoted(self._publication))
        state = replication.simple(
            f"START_REPLICATION SLOT {quoted(self._slot)} LOGICAL {lsn_text(lsn)} "
            f"(proto_version '1', publication_names {publication})",
            doing="starting to stream",
            tolerate=("55006", "55000", "42704"),
        )
        if state == "42704":
            raise error("slot_missing", slot=self._slot, from_lsn=lsn_text(lsn))
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
        if self._chunks.busy or self._query is None:
            return
        if now >= self._discover_at:
            self._discover_at = now + self._config.discover_s
            if discovery.discover(
                self._query, self._config, self._snapshots, self._publication,
                self._origin.publication,
            ):  # fmt: skip
                self._stream.reroute()
        if now >= self._lag_at:
            self._lag_at = now + LAG_S
            rows = self._query.rows("SELECT pg_current_wal_lsn()", doing="reading the log's end")
            lag_bytes = max(0, lsn_value(str(rows[0][0])) - self._stream.lsn)
            waiting = len(self._snapshots.tables)
            detail = f"{waiting} tables to snapshot" if waiting else ""
            self._context.progress(lag_bytes=lag_bytes, detail=detail)
        if now >= self._nudge_at:
            self._nudge_at = now + NUDGE_S
            idle = not self._returned_whole and self._chunks.idle(self._snapshots)
            if idle and self._stream.lsn < self._needed_lsn():
                # A commit flushes the log up to itself, and a logical message is no change.
                self._query.query(
                    "SELECT pg_logical_emit_message(true, $1, '')", (MESSAGE_PREFIX,),
                    doing="writing a heartbeat",
                )  # fmt: skip

    def _needed_lsn(self) -> int:
        """The LSN that the stream has to pass for `caught_up`."""
        chunks = [as_of.lsn for t in self._snapshots.tables.values() for as_of in t.chunks]
        points = [a.lsn for t in self._snapshots.tables.values() for a in t.points.values() if a]
        return max(self._target, *chunks, *points, 0)

    def _wait(self, timeout_s: float) -> None:
        """Block until something comes, having told the server what is durable."""
        if self._unfed:
            self._feed()
        if self._config.snapshot == "only" and self._returned_whole:
            assert self._query is not None
            self._query.wait(timeout_s)
        elif self._replication is not None:
            self._replication.wait(timeout_s)

    def _patience_s(self, now: float) -> float:
        """How long `read` may wait for the stream before something else is to be looked at."""
        config = self._config
        times = [self._discover_at, self._returned_at + config.heartbeat_s, now + 1.0]
        if not self._chunks.idle(self._snapshots):
            times.append(self._chunks.wake_at(self._snapshots))
        if not self._returned_whole:
            times.append(self._nudge_at)
        return max(PAUSE_S_MIN, min(times) - now)

    def ack(self, position: Position) -> None:
        """Everything up to ``position`` is durable (I5): confirm its last complete transaction.
        The keep-alive too (I4). Reads nothing."""
        stream = self._stream
        lsn = confirmed_lsn(position)
        if lsn > stream.acked:
            stream.acked = lsn
            self._unfed = True
        if stream.fed_ago_s >= (FEEDBACK_S_MIN if self._unfed else KEEPALIVE_S_MIN):
            self._feed()

    def _feed(self) -> None:
        self._unfed = False
        self._stream.feed()

    def caught_up(self) -> bool:
        """See `ensign_core.plugin.Source`: the last position returned has passed the log's end at
        `open`, and every snapshot is read and passed by the stream."""
        return self._returned_whole

    def close(self) -> None:
        """Close both connections; the server frees the slot when it notices."""
        for session in (self._replication, self._query):
            if session is not None:
                session.close()
        self._replication = self._query = None


def _replication_session(config: PostgresConfig, pipeline: str, server: catalog.Server) -> Session:
    try:
        return Session(config, pipeline, replication=True)
    except EnsignError as failed:
        if failed.code == "postgres.privilege_missing":
            raise error("replication_privilege", user=server.user) from None
        raise
