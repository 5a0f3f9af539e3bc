"""Reads the chunks of snapshots: one at a time, each in one short transaction of the query
connection, in steps that never outlast their deadline.

Order within a chunk's transaction: the lock comes first, since a rewriting ALTER TABLE or a
TRUNCATE that commits between a snapshot and the first read leaves the table empty to that snapshot;
then the snapshot, then the WAL position behind it, then the rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connectors.postgres import wal
from connectors.postgres.catalog import (
    Description,
    KeyPart,
    Types,
    describe,
    key_parts,
    page_start,
    schema_of_table,
)
from connectors.postgres.config import PostgresConfig
from connectors.postgres.copytext import RowCopier
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_value
from connectors.postgres.position import Snapshots
from connectors.postgres.session import CopyOut, Session, literal, quoted
from connectors.postgres.snapshot import (
    OWED_MAX,
    AsOf,
    Key,
    TableSnapshot,
    Visible,
    comparable,
)
from ensign_core.change import Schema, Stage
from ensign_core.rows import split

LOCK_MS_MAX: Final = 50
"""How long the query connection waits for a lock: the stream waits meanwhile."""

RETRY_S: Final = 0.05
"""The pause after which a chunk is tried again whose snapshot was too early."""

LOCKED_RETRY_S: Final = 0.5
"""The pause after which a chunk of a locked table is tried again."""

_BEGIN: Final = (
    f"{wal.BEFORE_AS_OF}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL lock_timeout = {LOCK_MS_MAX}; LOCK TABLE {{table}} IN ACCESS SHARE MODE"
)
_BY_INDEX: Final = (
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
)


class Piece(NamedTuple):
    """Rows of a snapshot. ``ordinal`` is the first row's place in its chunk; ``wipe``: the topic
    needs a truncate before them; ``stage`` is not NONE where the table is read in one chunk."""

    schema: Schema
    bodies: list[bytes]
    ordinal: int
    lsn: int
    wipe: bool
    stage: Stage


@dataclass
class _Job:
    """A chunk under way. ``limit`` is its number of rows, 0 for a whole table or a point."""

    table: TableSnapshot
    schema: Schema
    as_of: AsOf
    copy: CopyOut
    limit: int
    point: Key | None
    wipe: bool
    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    ordinal: int = 0
    held: bool = False


class ChunkReader:
    """Chooses the next chunk and reads it. One instance per source, on its thread (I1)."""

    def __init__(
        self,
        session: Session,
        config: PostgresConfig,
        *,
        database: str,
        publication: str,
        types: Types,
        wal_page: int,
    ) -> None:
        self._session = session
        self._config = config
        self._database = database
        self._publication = publication
        self._types = types
        self._wal_page = wal_page
        self._job: _Job | None = None
        self._limits: dict[int, int] = {}
        self._named: dict[int, Description] = {}
        # The row layout is up to some times longer than COPY's text, hence a half.
        self._bytes_max = max(1, config.batch_bytes_max // 2)
        self._retry_at: dict[int, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a chunk is under way, so that the query connection is taken."""
        return self._job is not None

    @property
    def holding(self) -> bool:
        """Whether rows are held: nothing else may be returned before they are released."""
        return self._job is not None and self._job.held

    def due(self, snapshots: Snapshots, now: float) -> bool:
        """Whether `step` has something to do."""
        return self._job is not None or self._next(snapshots, now) is not None

    def idle(self, snapshots: Snapshots) -> bool:
        """Whether there is nothing to read, now or later."""
        return self._job is None and not any(map(_pending, snapshots.tables.values()))

    def wake_at(self, snapshots: Snapshots) -> float:
        """When `due` may be true next, by `time.monotonic`."""
        times = [self._retry_at.get(t.oid, 0.0) for t in snapshots.tables.values() if _pending(t)]
        return min(times, default=0.0)

    def _next(self, snapshots: Snapshots, now: float) -> TableSnapshot | None:
        """The table to read of: one after the other, but those that cannot be read now wait."""
        tables = [t for t in snapshots.tables.values() if self._retry_at.get(t.oid, 0.0) <= now]
        pointed = (t for t in tables if t.pending_point() is not None)
        return next(pointed, None) or next((t for t in tables if not t.complete), None)

    def _later(self, table: TableSnapshot, pause_s: float) -> None:
        self._retry_at[table.oid] = time.monotonic() + pause_s

    def step(self, snapshots: Snapshots, deadline: float) -> Piece | None:
        """Go on with the chunk under way or begin one; its rows, or None when there is nothing to
        return yet. Updates the table's state in ``snapshots`` when the chunk is read."""
        self.pay(snapshots)
        if self._job is None:
            table = self._next(snapshots, time.monotonic())
            if table is None or not self._begin(table, snapshots):
                return None
        job = self._job
        assert job is not None
        lines, size = job.copy.read(max(1, self._bytes_max - job.size), deadline)
        job.lines += lines
        job.size += size
        if job.copy.blocked:
            self._rollback()
            self._later(job.table, LOCKED_RETRY_S)
            self._job = None
            return None
        full = job.size >= self._bytes_max
        if not job.copy.finished and not full:
            return None
        if job.limit or job.point is not None:
            return self._end_of_chunk(job)
        return self._part_of_whole(job)

    def pay(self, snapshots: Snapshots) -> None:
        """Forget owed transactions that have become visible, where too many are remembered."""
        if self._job is not None or all(
            len(table.owed) <= OWED_MAX for table in snapshots.tables.values()
        ):
            return
        rows = self._session.rows("SELECT pg_current_snapshot()", doing="reading the snapshot")
        visible = Visible.parse(str(rows[0][0]))
        for table in snapshots.tables.values():
            table.owed = {xid for xid in table.owed if not visible.sees(xid)}

    def _begin(self, table: TableSnapshot, snapshots: Snapshots) -> bool:
        """Lock, look, and start the COPY. False: not now."""
        found = self._locked(table, snapshots)
        if found is None:
            return False
        row = self._session.rows(wal.AS_OF, doing="reading a snapshot")[0]
        if row[0] is None:
            self._rollback()
            self._later(table, RETRY_S)
            return False
        as_of = AsOf(Visible.parse(str(row[0])), page_start(lsn_value(str(row[1])), self._wal_page))
        if not table.ready(as_of.visible):
            self._rollback()
            self._later(table, RETRY_S)
            return False
        key = key_parts(found, self._types)
        key = key if all(part.kind for part in key) else ()
        if table.begun and key != table.key:
            table.wipe = table.wipe or bool(table.chunks) or table.low is not None
            table.restart()
        table.begun, table.key = True, key
        schema = schema_of_table(self._database, found, self._types, self._config.columns)
        point = table.pending_point()
        limit = 0
        if key and point is None:
            limit = self._limits.setdefault(table.oid, self._config.chunk_rows)
            self._session.simple(_BY_INDEX, doing="reading a chunk")
        user = self._session.facts["user"]
        copy = CopyOut(
            self._session,
            select(found, schema, table, limit, point),
            doing=f"reading table {schema.name}",
            statement=f'GRANT SELECT ON {schema.name} TO "{user}"; with row security also ALTER '
            f'ROLE "{user}" BYPASSRLS',
        )
        self._job = _Job(table, schema, as_of, copy, limit, point, table.wipe and point is None)
        return True

    def _locked(self, table: TableSnapshot, snapshots: Snapshots) -> Description | None:
        """Begin a transaction and lock the table; None if it cannot be locked now or is gone."""
        named = self._named.pop(table.oid, None)
        named = named or describe(self._session, table.oid)
        if named is None:
            del snapshots.tables[table.oid]
            snapshots.done.add(table.oid)
            return None
        state = self._session.simple(
            _BEGIN.format(table=relation(named)),
            doing=f"locking table {named.schema}.{named.name}",
            tolerate=("42P01", "3F000", "55P03", "42501"),
        )
        if state == "42501":
            name = f"{named.schema}.{named.name}"
            raise error("select_privilege", **self._session.facts, table=name)
        found = None
        if not isinstance(state, str):
            found = describe(self._session, table.oid, self._publication)
        # Renamed meanwhile: another table may have been locked.
        if found is None or (found.schema, found.name) != (named.schema, named.name):
            self._rollback()
            self._later(table, LOCKED_RETRY_S if state == "55P03" else RETRY_S)
            return None
        self._named[table.oid] = found
        return found

    def _rollback(self) -> None:
        self._session.simple("ROLLBACK", doing="ending a chunk")

    def _end_of_chunk(self, job: _Job) -> Piece:
        """A chunk of a key range, or one row, is read."""
        table = job.table
        cut = not job.copy.finished
        if cut:
            job.copy.abandon()
        self._rollback()
        bodies = self._bodies(job)
        if job.point is not None:
            table.read_point(job.point, job.as_of)
        else:
            whole = not cut and len(bodies) < job.limit
            table.read(None if whole else _last_key(table, job.schema, bodies[-1]), job.as_of)
            if cut:
                self._limits[table.oid] = max(1, len(bodies))
            elif job.size < self._bytes_max // 2:
                self._limits[table.oid] = min(self._config.chunk_rows, job.limit * 2)
        self._job = None
        return Piece(job.schema, bodies, 0, job.as_of.lsn, job.wipe, Stage.NONE)

    def _part_of_whole(self, job: _Job) -> Piece:
        """Some rows of a table that is one chunk, or its last ones."""
        bodies = self._bodies(job)
        stage = Stage.HOLD
        if job.copy.finished:
            self._rollback()
            job.table.read(None, job.as_of)
            stage = Stage.RELEASE if job.held else Stage.NONE
            self._job = None
        piece = Piece(job.schema, bodies, job.ordinal, job.as_of.lsn, job.wipe, stage)
        job.ordinal += len(bodies)
        job.held = True
        job.wipe = False
        return piece

    def _bodies(self, job: _Job) -> list[bytes]:
        copier = RowCopier(len(job.schema.columns))
        bodies = list(map(copier.body, job.lines))
        job.lines, job.size = [], 0 if job.limit == 0 else job.size
        return bodies


def _pending(table: TableSnapshot) -> bool:
    return not table.complete or table.pending_point() is not None


def relation(found: Description) -> str:
    """A table in FROM and LOCK: without the tables that inherit from it, which are captured as
    tables of their own, but with its partitions."""
    name = f"{quoted(found.schema)}.{quoted(found.name)}"
    return name if found.partitioned else f"ONLY {name}"


def select(
    found: Description, schema: Schema, table: TableSnapshot, limit: int, point: Key | None
) -> str:
    """The COPY of a chunk: behind the cursor in key order, one key's row, or the whole table."""
    columns = ", ".join(quoted(column.name) for column in schema.columns)
    conditions = [f"({found.row_filter})"] if found.row_filter else []
    names = ", ".join(quoted(part.name) for part in table.key)
    order = ""
    if point is not None:
        conditions.append(f"({names}) = {_tuple(table.key, point)}")
    elif limit:
        order = f" ORDER BY {names} LIMIT {limit}"
        if table.cursor is not None:
            conditions.append(f"({names}) > {_tuple(table.key, table.cursor)}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = f"SELECT {columns} FROM {relation(found)}{where}{order}"  # noqa: S608
    return f"COPY ({rows}) TO STDOUT"


def _tuple(parts: tuple[KeyPart, ...], key: Key) -> str:
    values = [
        str(value) if isinstance(value, int) else literal(value.decode("utf-8", "surrogateescape"))
        for value in key
    ]
    assert len(values) == len(parts)
    return f"({', '.join(values)})"


def _last_key(table: TableSnapshot, schema: Schema, body: bytes) -> Key:
    values = split(body[1:])[1]
    places = {column.name: i for i, column in enumerate(schema.columns)}
    return tuple(comparable(part, values[places[part.name]]) for part in table.key)
