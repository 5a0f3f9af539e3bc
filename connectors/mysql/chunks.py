"""Chunks: ranges of a table's key, each read in one short transaction.

Order within a chunk: the snapshot, then the end of the log behind it, which is the chunk's gate,
then the rows. A statement that changes the table meanwhile is in the log before or behind the gate,
and the server refuses to read a table that is younger than the snapshot.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from connectors.mysql import gathered, textrows
from connectors.mysql.config import MysqlConfig
from connectors.mysql.gtids import GtidSet
from connectors.mysql.lane import Lane
from connectors.mysql.position import Place
from connectors.mysql.session import literal, quoted
from connectors.mysql.snapshot import Key, KeyPart, Window, comparable
from connectors.mysql.stream import Stream
from connectors.mysql.structures import Structure
from connectors.mysql.tables import Tables
from connectors.mysql.types import character_bytes_max
from connectors.mysql.wire import Type, WireColumn, string_meta
from ensign_core.change import Batch, Op, Position, Run, Schema, Stage, Tx
from ensign_core.errors import EnsignError

FIRST_ROWS: Final = 1000
"""Rows of a table's first chunks, which tell how long a row is."""

FILL: Final = 0.9
"""How much of `batch_bytes_max` a chunk's rows are meant to have."""

RETRY_S: Final = 0.005
"""The pause after which a chunk is tried again whose snapshot was too early."""

LATER_S: Final = 0.25
"""The pause after which it is tried again where its table is not as it was, or the stream is far
behind."""

NEAR_BYTES: Final = 64 << 20
"""How far the stream may be behind when a chunk begins: its transaction is open meanwhile."""

REFUSED_LATER: Final = frozenset(("mysql.refused", "mysql.timeout"))
"""What a table that is changed just now leads to."""


class Piece(NamedTuple):
    """Rows of a snapshot, as bodies. ``ordinal`` is the first row's place in its chunk; ``wipe``:
    the topic needs a truncate before them; ``stage`` is not NONE where the table is read in one
    chunk. ``op`` is DELETE for rows that a table has no more."""

    schema: Schema
    bodies: list[bytes] | gathered.Gathered
    ordinal: int
    gate: Place
    wipe: bool = False
    stage: Stage = Stage.NONE
    op: Op = Op.SNAPSHOT

    def batch(self, position: Position) -> Batch:
        """As a batch that moves the source to ``position``."""
        if isinstance(self.bodies, gathered.Gathered):
            body, ends = self.bodies.take()
        else:
            body, ends = b"".join(self.bodies), array("I", accumulate(map(len, self.bodies)))
        ops = bytes((self.op,)) * len(ends)
        if self.wipe:
            ops = bytes((Op.TRUNCATE,)) + ops
            ends = array("I", (0,)) + ends
        runs = [Run(0, self.ordinal, Tx(None, str(self.gate), None))] if ends else []
        return Batch(
            ops, array("H", bytes(2 * len(ends))), ends, body, runs,
            [self.schema] if ends else [], position, self.stage,
        )  # fmt: skip


@dataclass
class Chunk:
    """A chunk under way: of the table ``name`` as it was in its ``version``, what is behind
    ``lower`` in the order of ``key``, about ``wanted`` rows of it; all of the table where that is
    0."""

    lane: Lane
    name: str
    version: int
    structure: Structure
    schema: Schema
    key: tuple[KeyPart, ...]
    lower: Key | None
    wanted: int
    gate: Place
    rows: textrows.TextRows
    locked: bool
    window: Window
    bodies: gathered.Gathered = field(default_factory=gathered.Gathered)
    received: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is a table that is read in one chunk."""
        return not self.wanted

    @property
    def ended(self) -> bool:
        """Whether the server has sent all of it."""
        return self.rows.ended

    def receive(self, bytes_max: int, deadline: float) -> bool:
        """See `Lane.receive`."""
        return self.lane.receive(self.bodies, bytes_max, deadline)

    def upper(self) -> Key | None:
        """The last key that was read; None where that was the table's end."""
        if self.ended and len(self.bodies) < self.wanted:
            return None
        found = self.rows.last_key()
        if found is None:
            return None
        return tuple(comparable(part, v or b"") for part, v in zip(self.key, found, strict=True))


class Opener:
    """Begins and ends chunks on one connection, which is opened when there is something to read.
    On the source's thread (I1)."""

    def __init__(
        self, config: MysqlConfig, tables: Tables, stream: Stream, connect: Callable[[], Lane]
    ) -> None:
        self._config = config
        self._tables = tables
        self._stream = stream
        self._connect = connect
        self._lane: Lane | None = None

    def key(self, structure: Structure) -> tuple[KeyPart, ...]:
        """The key a table is read by, empty where its order cannot be reproduced here or there is
        none."""
        if not structure.key or not all(structure.ordering):
            return ()
        return tuple(
            KeyPart(structure.columns[i].name, sorts, _length(structure.columns[i]))
            for i, sorts in zip(structure.key, structure.ordering, strict=True)
        )

    def open(self, name: str, lower: Key | None, rows: int, where: str | None) -> Chunk | float:
        """Begin a chunk, or say after how many seconds to try again."""
        stream = self._stream
        structure = self._tables.structures[name]
        if not stream.settled:
            return RETRY_S
        lane = self._lane = self._lane or self._connect()
        locked = not structure.transactional
        gate, executed = lane.begin(structure)
        shown = GtidSet.parse(executed)
        wait_s = self._too_early(name, gate, shown)
        if wait_s:
            self._rest(locked)
            return wait_s
        key = self.key(structure)
        kept = structure.keep(self._config.columns)
        indexes = range(len(structure.columns)) if kept is None else kept
        columns = [structure.columns[i] for i in indexes]
        schema = self._tables.schema(name)
        places = [[column.name for column in columns].index(part.name) for part in key]
        found = textrows.TextRows(columns, places)
        wanted = rows if key else 0
        sql = _select(structure, columns, key, lower, wanted, where)
        lane.select(
            sql, found, doing=f"reading table {name}",
            statement=f"GRANT SELECT ON {_table(structure)} TO '{self._config.user}'",
        )  # fmt: skip
        version = self._tables.versions.get(name, 0)
        window = Window(exact=lane.exact or locked, shown=shown)
        chunk = Chunk(
            lane, name, version, structure, schema, key, lower, wanted, gate, found, locked, window
        )
        stream.routes.watch(name, window)
        return chunk

    def _too_early(self, name: str, gate: Place, seen: GtidSet) -> float:
        """How long to wait where the snapshot does not see all that the stream has brought, or the
        stream is far from the gate; 0 where neither is."""
        stream = self._stream
        place = stream.place
        if place.order > gate.order or not stream.consumed.within(seen):
            return RETRY_S
        unknown_s = stream.routes.unknown_s(name)
        if unknown_s:
            return unknown_s
        far = place.file != gate.file or gate.offset - place.offset > NEAR_BYTES
        # The last file but one may have ended just now.
        return LATER_S if far and gate.offset > 4096 else 0.0

    def current(self, chunk: Chunk) -> bool:
        """Whether the table is as it was when the chunk began."""
        return (
            self._tables.versions.get(chunk.name, 0) == chunk.version
            and chunk.name in self._tables.structures
        )

    def end(self, chunk: Chunk) -> None:
        """Let go of a chunk, whatever was read of it."""
        self._stream.routes.unwatch(chunk.name, chunk.window)
        try:
            over = chunk.lane.end(locked=chunk.locked)
        except EnsignError:
            over = False
        if not over:
            self.close()

    def _rest(self, locked: bool) -> None:
        assert self._lane is not None
        self._lane.end(locked=locked)

    def close(self) -> None:
        """Close the connection: there is nothing to read for now."""
        self._stream.routes.rest()
        if self._lane is not None:
            self._lane.close()
            self._lane = None


def first_rows(config: MysqlConfig) -> int:
    """How many rows a table's first chunks are meant to have."""
    return min(FIRST_ROWS, config.chunk_rows)


def fitting_rows(config: MysqlConfig, rows: int, size: int) -> int:
    """How many the next chunks are meant to have, after one of so many ``rows`` with ``size``
    bytes."""
    fit = int(FILL * config.batch_bytes_max * rows / max(1, size))
    return max(1, min(config.chunk_rows, fit))


def _length(column: WireColumn) -> int:
    """The bytes that a value can have in UTF-8."""
    if column.type == Type.STRING:
        return string_meta(column.meta)[1] // character_bytes_max(column.charset) * 4
    return column.meta // character_bytes_max(column.charset) * 4 if column.charset else column.meta


def _table(structure: Structure) -> str:
    return f"{quoted(structure.database)}.{quoted(structure.table)}"


def _selected(column: WireColumn) -> str:
    """A column in a SELECT list: floats as doubles, whose text is exact."""
    name = quoted(column.name)
    return f"{name} * 1e0" if column.type in (Type.FLOAT, Type.DOUBLE) else name


def _select(
    structure: Structure,
    columns: list[WireColumn],
    key: tuple[KeyPart, ...],
    lower: Key | None,
    rows: int,
    where: str | None,
) -> str:
    """The SELECT of a chunk: its range in key order, or the whole table."""
    listed = ", ".join(map(_selected, columns)) or "1"
    filters = [_behind(structure, key, lower)] if lower is not None else []
    if where:
        # On lines of its own: a comment in it ends there.
        filters.append(f"(\n{where}\n)")
    text = f"SELECT {listed} FROM {_table(structure)}"  # noqa: S608
    if structure.versioned:
        text += " FOR SYSTEM_TIME ALL"
    if filters:
        text += f" WHERE {' AND '.join(filters)}"
    if rows:
        text += f" ORDER BY {', '.join(quoted(part.name) for part in key)} LIMIT {rows}"
    return text


def _behind(structure: Structure, key: tuple[KeyPart, ...], lower: Key) -> str:
    """Behind a key in key order. A comparison of rows would not be looked up in the index."""
    by_name = {column.name: column for column in structure.columns}
    names = [quoted(part.name) for part in key]
    values = [
        _value(by_name[part.name], part, value) for part, value in zip(key, lower, strict=True)
    ]
    alternatives = []
    for place in range(len(names)):
        equal = [f"{names[i]} = {values[i]}" for i in range(place)]
        alternatives.append(" AND ".join([*equal, f"{names[place]} > {values[place]}"]))
    text = " OR ".join(f"({alternative})" for alternative in alternatives)
    return f"{names[0]} >= {values[0]} AND ({text})"


def _value(column: WireColumn, part: KeyPart, value: int | bytes) -> str:
    if isinstance(value, int):
        return str(value)
    if part.sorts == "padded":
        value = value.rstrip(b" ")
    if column.charset:
        return literal(value.decode("utf-8", "surrogateescape"))
    if column.type in (Type.DATE, Type.DATETIME2, Type.TIMESTAMP2):
        return f"'{value.decode()}'"
    return f"X'{value.hex()}'"


def unreadable(failed: EnsignError) -> bool:
    """Whether a chunk failed since its table changed under it."""
    return failed.code in REFUSED_LATER
