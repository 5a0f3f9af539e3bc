"""Chunks: ranges of a table's key, each read in one short transaction of a connection of its own.

Order within a chunk's transaction: the lock comes first, since a rewriting ALTER TABLE or a
TRUNCATE that commits between a snapshot and the first read leaves the table empty to that snapshot;
then the snapshot, then the WAL position behind it, then the chunk's upper bound, then the rows.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connectors.postgres import catalog, wal
from connectors.postgres.catalog import Description, KeyPart, Server, Types
from connectors.postgres.config import PostgresConfig
from connectors.postgres.copytext import bodies
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_value, page_start
from connectors.postgres.session import CopyOut, Session, literal, quoted
from connectors.postgres.snapshot import AsOf, Key, Visible, comparable
from ensign_core.change import Op, Schema, Stage
from ensign_core.errors import EnsignError
from ensign_core.rows import split

LOCK_MS_MAX: Final = 50
"""How long a connection waits for a table's lock: the stream waits meanwhile."""

LOCKED_RETRY_S: Final = 0.5
"""The pause after which a chunk of a locked table is tried again."""

RENAMED_RETRY_S: Final = 0.05

SILENCE_S_MAX: Final = 60.0
"""A server that sends nothing of a chunk for so long is gone, unless it still looks for a row."""

FIRST_ROWS: Final = 1000
"""Rows of a table's first chunks, which tell how long a row is."""

FILL: Final = 0.4
"""How much of `batch_bytes_max` the text of a chunk's rows is meant to have: the row layout is up
to some times longer, and rows vary."""

ANSWER_S_MAX: Final = 5.0
"""How long it has to answer when it is asked for that."""

_LOOKING: Final = """
SELECT FROM pg_catalog.pg_stat_activity
WHERE pid = $1::int AND state = 'active' AND wait_event IS DISTINCT FROM 'ClientWrite'
"""

_BEGIN: Final = (
    f"{wal.BEFORE_AS_OF}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL lock_timeout = {LOCK_MS_MAX}; LOCK TABLE {{table}} IN ACCESS SHARE MODE"
)
_BY_INDEX: Final = (
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
)


class Piece(NamedTuple):
    """Rows of a snapshot, as bodies and their ends. ``ordinal`` is the first row's place in its
    chunk; ``wipe``: the topic needs a truncate before them; ``stage`` is not NONE where the table
    is read in one chunk. ``op`` is DELETE for rows that a table has no more. ``damaged`` are lines
    that are no rows."""

    oid: int
    schema: Schema
    body: bytes
    ends: array[int]
    ordinal: int
    lsn: int
    wipe: bool = False
    stage: Stage = Stage.NONE
    op: Op = Op.SNAPSHOT
    damaged: tuple[bytes, ...] = ()


@dataclass
class Range:
    """What a chunk reads: behind ``lower`` in key order about ``rows`` rows, or all if that is 0;
    or the one row of ``point``. ``part``: only of that partition. ``where``: an operator's SQL."""

    oid: int
    lower: Key | None = None
    rows: int = 0
    point: Key | None = None
    part: int = 0
    where: str | None = None


@dataclass
class Chunk:
    """A chunk under way. ``upper`` is its last key, None where it goes to the table's end."""

    lane: Session
    asked: Range
    key: tuple[KeyPart, ...]
    schema: Schema
    as_of: AsOf
    upper: Key | None
    copy: CopyOut
    query: Session
    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: bool = False
    heard_at: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it is a table that is read in one chunk."""
        return not self.asked.rows and self.asked.point is None

    def receive(self, bytes_max: int, deadline: float) -> bool:
        """Take in lines until there are ``bytes_max`` bytes or no more come (True), or the deadline
        passes (False); with the last one the transaction ends. Raises ``postgres.connection_lost``
        when the server has gone silent."""
        if self._there(bytes_max):
            return True
        if self.heard_at is None:
            self.heard_at = time.monotonic()
        lines, size = self.copy.read(max(1, bytes_max - self.size), deadline)
        now = time.monotonic()
        if lines or self.copy.finished or self.copy.blocked:
            self.heard_at = now
        elif now - self.heard_at > SILENCE_S_MAX:
            if not self._looking():
                raise error("connection_lost")
            self.heard_at = time.monotonic()
        self.lines += lines
        self.size += size
        if self.copy.finished:
            self.end()
        return self._there(bytes_max)

    def _looking(self) -> bool:
        """Whether the server works on the chunk, such as for a filter that few rows pass."""
        try:
            found = self.query.query(
                _LOOKING, (str(self.lane.conn.backend_pid),), timeout_s=ANSWER_S_MAX
            )
        except EnsignError:
            return False
        return bool(found)

    def _there(self, bytes_max: int) -> bool:
        return self.copy.finished or self.copy.blocked or self.size >= bytes_max

    def piece(self, ordinal: int = 0) -> Piece:
        """The lines received, which are dropped here."""
        lines, columns = self.lines, len(self.schema.columns)
        self.lines, self.size = [], 0
        damaged: list[bytes] = []
        try:
            body, ends = bodies(lines, columns)
        except EnsignError:
            whole: list[bytes] = []
            for line in lines:
                (whole if _readable(line, columns) else damaged).append(line)
            body, ends = bodies(whole, columns)
        return Piece(
            self.asked.oid, self.schema, body, ends, ordinal, self.as_of.lsn,
            damaged=tuple(damaged),
        )  # fmt: skip

    def cut(self) -> None:
        """End the chunk at the last row received, since it is larger than was foreseen."""
        body, _ = bodies(self.lines[-1:], len(self.schema.columns))
        values = split(body[1:])[1]
        places = {column.name: i for i, column in enumerate(self.schema.columns)}
        self.upper = tuple(comparable(part, values[places[part.name]]) for part in self.key)
        self.copy.abandon()

    def end(self) -> None:
        """End the transaction, if it has not ended; the connection is free for the next chunk."""
        if self.ended:
            return
        if not (self.copy.finished or self.copy.blocked):
            self.copy.abandon()
        rollback(self.lane)
        self.ended = True


def first_rows(config: PostgresConfig) -> int:
    """How many rows a table's first chunks are meant to have."""
    return min(FIRST_ROWS, config.chunk_rows)


def fitting_rows(config: PostgresConfig, rows: int, size: int) -> int:
    """How many the next chunks are meant to have, after one of so many ``rows`` with ``size``
    bytes of text."""
    fit = int(FILL * config.batch_bytes_max * rows / max(1, size))
    return max(1, min(config.chunk_rows, fit))


def bytes_max(config: PostgresConfig, chunk: Chunk) -> int:
    """The bytes of text after which a chunk's rows are returned."""
    return max(1, int(config.batch_bytes_max * (FILL if chunk.whole else 1)))


def _readable(line: bytes, columns: int) -> bool:
    try:
        bodies([line], columns)
    except EnsignError:
        return False
    return True


def rollback(lane: Session) -> None:
    """End the transaction of a connection that runs no COPY."""
    lane.simple("ROLLBACK", doing="ending a chunk")


@dataclass(frozen=True)
class Locked:
    """A table in a transaction that has locked it, and what its rows are read of: the table, or one
    of its partitions."""

    table: Description
    read: Description


class Opener:
    """Begins chunks on the connections that it is given. On the source's thread (I1)."""

    def __init__(
        self,
        query: Session,
        config: PostgresConfig,
        server: Server,
        publication: str,
        types: Types,
    ) -> None:
        self._query = query
        self._config = config
        self._server = server
        self._publication = publication
        self.types = types
        self._named: dict[int, Description] = {}

    def lock(self, lane: Session, oid: int, part: int = 0) -> Locked | float | None:
        """Begin a transaction and lock the table. None: it is gone, or ``part`` is none of its
        partitions any more; a number: try again after so many seconds."""
        target = part or oid
        named = self._named.pop(target, None) or catalog.describe(lane, target)
        if named is None:
            return None
        state = lane.simple(
            _BEGIN.format(table=relation(named)),
            doing=f"locking table {named.schema}.{named.name}",
            tolerate=("42P01", "3F000", "55P03", "42501"),
        )
        if state == "42501":
            raise error(
                "select_privilege", **self._query.facts, table=f"{named.schema}.{named.name}"
            )
        found = None
        if not isinstance(state, str):
            found = catalog.describe(lane, target, "" if part else self._publication)
        # Renamed meanwhile: another table may have been locked.
        if found is None or (found.schema, found.name) != (named.schema, named.name):
            rollback(lane)
            return LOCKED_RETRY_S if state == "55P03" else RENAMED_RETRY_S
        self._named[target] = found
        root = catalog.describe(lane, oid, self._publication) if part else found
        if root is None or (part and all(each.oid != oid for each in found.roots)):
            rollback(lane)
            return None
        return Locked(root, found)

    def as_of(self, lane: Session, *, flushed: bool = False) -> AsOf | None:
        """The snapshot of a transaction that has begun, None where it cannot be told. Its LSN is
        the end of the log behind it, or of what is ``flushed``: then asynchronous commits that it
        sees may come later."""
        text, end = lane.rows(wal.AS_OF, doing="reading a snapshot")[0]
        if text is None:
            return None
        if flushed:
            end = lane.rows(f"SELECT {wal.FLUSHED}", doing="reading the log's end")[0][0]
        lsn = page_start(lsn_value(str(end)), self._server.wal_page)
        return AsOf(Visible.parse(text), lsn)

    def schema(self, found: Description) -> Schema:
        """The schema of the rows that are captured of a table as it is now."""
        database, columns = self._server.database, self._config.columns
        return catalog.schema_of_table(database, found, self.types, columns)

    def key(self, found: Description) -> tuple[KeyPart, ...]:
        """The table's key, empty where its order cannot be reproduced here or there is none."""
        key = catalog.key_parts(found, self.types)
        return key if all(part.kind for part in key) else ()

    def open(
        self, lane: Session, locked: Locked, as_of: AsOf, key: tuple[KeyPart, ...], asked: Range
    ) -> Chunk:
        """Find the chunk's end and start to read it."""
        schema = self.schema(locked.table)
        user = self._query.facts["user"]
        doing = f"reading table {schema.name}"
        statement = (
            f'GRANT SELECT ON {schema.name} TO "{user}"; with row security also ALTER ROLE '
            f'"{user}" BYPASSRLS'
        )
        upper: Key | None = None
        if asked.rows:
            lane.simple(_BY_INDEX, doing="reading a chunk")
            query = upper_bound(locked, key, asked)
            bound = lane.query(query, doing=doing, statement=statement)
            if bound:
                values = [str(value).encode("utf-8", "surrogateescape") for value in bound[0]]
                upper = tuple(map(comparable, key, values))
        copy = CopyOut(
            lane, select(locked, schema, key, asked, upper), doing=doing, statement=statement
        )
        return Chunk(lane, asked, key, schema, as_of, upper, copy, self._query)


def relation(found: Description) -> str:
    """A table in FROM and LOCK: without the tables that inherit from it, which are captured as
    tables of their own, but with its partitions."""
    name = f"{quoted(found.schema)}.{quoted(found.name)}"
    return name if found.partitioned else f"ONLY {name}"


def select(
    locked: Locked, schema: Schema, key: tuple[KeyPart, ...], asked: Range, upper: Key | None
) -> str:
    """The COPY of a chunk: its range in key order, one key's row, or the whole table."""
    columns = ", ".join(quoted(column.name) for column in schema.columns)
    filters = [f"({locked.table.row_filter})"] if locked.table.row_filter else []
    if asked.where:
        # On lines of its own: a comment in it ends there.
        filters.append(f"(\n{asked.where}\n)")
    names = _names(key)
    order = ""
    if asked.point is not None:
        filters.append(f"({names}) = {_tuple(asked.point)}")
    elif asked.rows:
        order = f" ORDER BY {names}"
        filters += _behind(names, asked.lower)
        if upper is not None:
            filters.append(f"({names}) <= {_tuple(upper)}")
    where = f" WHERE {' AND '.join(filters)}" if filters else ""
    rows = f"SELECT {columns} FROM {relation(locked.read)}{where}{order}"  # noqa: S608
    return f"COPY ({rows}) TO STDOUT"


def upper_bound(locked: Locked, key: tuple[KeyPart, ...], asked: Range) -> str:
    """The query for the last key of a chunk; no row where fewer rows are left."""
    names = _names(key)
    behind = _behind(names, asked.lower)
    where = f" WHERE {behind[0]}" if behind else ""
    return (
        f"SELECT {names} FROM {relation(locked.read)}{where} "  # noqa: S608
        f"ORDER BY {names} OFFSET {asked.rows - 1} LIMIT 1"
    )


def _names(key: tuple[KeyPart, ...]) -> str:
    return ", ".join(quoted(part.name) for part in key)


def _behind(names: str, lower: Key | None) -> list[str]:
    return [] if lower is None else [f"({names}) > {_tuple(lower)}"]


def _tuple(key: Key) -> str:
    values = [
        str(value) if isinstance(value, int) else literal(value.decode("utf-8", "surrogateescape"))
        for value in key
    ]
    return f"({', '.join(values)})"
