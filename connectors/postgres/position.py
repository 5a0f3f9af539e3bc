"""The source's position: JSON, in the bytes that the core stores with the data they cover.

    {"v": 1, "system": "77...", "database": "shop", "slot": "ensign_shop", "publication": oid,
     "timeline": 1, "standby": false, "lsn": "0/16B3748",
     "tx": [final LSN, xid, rows, 0 | 1] | absent,
     "done": [oid, ...], "members": [[oid, oid], ...], "filters": [[oid, mark], ...],
     "names": [[mark, oid], ...], "void": [[oid, mark], ...], "schemas": [[oid, id], ...],
     "tables": [{...}, ...], "asked": [{...}, ...], "tables_read": N, "rows_read": N,
     "looked": "...", "signal": N, "paused": true, "gap": true}

``lsn`` is the end of the last complete transaction (or of a keepalive): the only LSN ever confirmed
to the server. ``tx`` is the transaction after it, as far as its rows were consumed. ``done`` are
the tables whose snapshot is over or was not wanted, ``tables`` those with one under way. For
``members``, ``names`` and ``void`` see `Snapshots`; a mark is short for a name, since a position is
stored with every batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from connectors.postgres.catalog import KeyPart
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_text, lsn_value
from connectors.postgres.snapshot import NEVER, Asked, AsOf, Key, TableSnapshot, Visible
from ensign_core.change import Position

VERSION = 1

NOBODY = 0
"""No table's oid: whose a name is that its last table gave up."""

LISTS = ("members", "filters", "names", "void", "schemas")
FEW = ("looked", "signal", "paused", "gap", "tables_read", "rows_read")
"""Fields of `Snapshots` by how they are written."""


class Partial(NamedTuple):
    """A transaction of which the first ``rows`` captured rows and messages were consumed;
    ``marked``: a marker of its begin was returned."""

    final_lsn: int
    xid: int
    rows: int
    marked: bool = False


class Origin(NamedTuple):
    """Whose position it is: a slot of another server or database is no continuation, and what was
    changed while a publication did not exist is in no stream. ``publication`` is its oid.
    ``timeline`` is the server's; ``standby``: it was one, whose slots only it has."""

    system: str
    database: str
    slot: str
    publication: int
    timeline: int
    standby: bool = False


@dataclass
class Snapshots:
    """All snapshot state: oids of tables that are done with, and those that are not.

    ``members`` are the oids in pg_publication_rel of tables that are published one by one, as they
    were when the tables were taken up, and ``filters`` the `mark` of the column list and row filter
    of those that have any. ``names`` has for the `mark` of each name that was ever
    captured the table that had it last. ``void`` are tables whose name another one has taken over,
    whose first chunk comes behind a truncate: what the stream still brings under it is void.
    ``schemas`` are the ids of the schemas that the topic had last of each table, ``looked`` says
    since when attached partitions are looked for (`connectors.postgres.attaching`), ``signal`` is
    the number of the last signal that was taken in, and while ``paused`` no chunk is read.
    ``asked`` are the ad hoc snapshots to come, in order; while there is a ``gap`` they
    close it, and are not given up. ``tables_read`` and ``rows_read`` count
    those tables that are done while others are not, for the progress.
    """

    done: set[int] = field(default_factory=set)
    tables: dict[int, TableSnapshot] = field(default_factory=dict)
    members: dict[int, int] = field(default_factory=dict)
    filters: dict[int, int] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict)
    void: dict[int, int] = field(default_factory=dict)
    schemas: dict[int, int] = field(default_factory=dict)
    looked: str = ""
    signal: int = 0
    paused: bool = False
    gap: bool = False
    asked: list[Asked] = field(default_factory=list)
    tables_read: int = 0
    rows_read: int = 0

    def knows(self, oid: int) -> bool:
        return oid in self.done or oid in self.tables

    def take_up(self, oid: int, name: str, bound: int | None) -> None:
        """A table is to be read. Where there may be rows under its name already, a truncate goes
        before them."""
        known = mark(name)
        before = self.names.get(known)
        if before is not None and before != oid:
            self.leave(before)
            self.void[before] = known
        self.void.pop(oid, None)
        self.tables[oid] = TableSnapshot(oid, bound, wipe=before is not None)
        self.names[known] = oid

    def leave(self, oid: int) -> None:
        """A table is not captured any more. Should it be taken up again, it is read anew."""
        self.done.discard(oid)
        self.tables.pop(oid, None)
        self.members.pop(oid, None)
        self.filters.pop(oid, None)
        if self.asked:
            self.asked = [asked for asked in self.asked if asked.oid != oid]
            self.gap = self.gap and bool(self.asked)

    def over(self, rows: int) -> None:
        """A table was read, with so many rows."""
        self.tables_read += 1
        self.rows_read += rows
        if not self.tables and not self.asked:
            self.tables_read = self.rows_read = 0

    def is_void(self, oid: int, name: str) -> bool:
        return oid in self.void and self.void[oid] == mark(name)

    def passed(self, lsn: int) -> int:
        """The stream has sent all that commits before ``lsn``: settled tables are done. The LSN of
        the next chunk to pass, `NEVER` if there is none."""
        following = NEVER
        for table in list(self.tables.values()):
            table.passed(lsn)
            if table.settled:
                del self.tables[table.oid]
                self.done.add(table.oid)
                self.over(table.rows)
            else:
                following = min(following, table.next_lsn())
        return following


def mark(name: str) -> int:
    """Two names with the same mark cost a needless truncate."""
    return crc32(name.encode("utf-8", "surrogateescape"))


class Standpoint(NamedTuple):
    """A decoded position."""

    origin: Origin
    lsn: int
    partial: Partial | None
    snapshots: Snapshots


class PositionWriter:
    """Encodes positions; what does not change from one to the next is encoded once."""

    def __init__(self, origin: Origin) -> None:
        self._prefix = json.dumps({"v": VERSION, **origin._asdict()})[:-1] + ', "lsn": "'
        self._rare: tuple[object, str] = (None, "")

    def encode(self, lsn: int, partial: Partial | None, snapshots: Snapshots) -> Position:
        """The position bytes; see the top of this module."""
        parts = [self._prefix, lsn_text(lsn), '"']
        if partial is not None:
            parts.append(f', "tx": [{", ".join(str(int(part)) for part in partial)}]')
        rare = snapshots.done, *(getattr(snapshots, name) for name in LISTS)
        if rare != self._rare[0]:
            lists: dict[str, Any] = {"done": sorted(snapshots.done)}
            pairs = zip(LISTS, rare[1:], strict=True)
            lists |= {name: sorted(found.items()) for name, found in pairs if found}
            text = json.dumps(lists, separators=(",", ":"))
            self._rare = tuple(part.copy() for part in rare), f", {text[1:-1]}"
        parts.append(self._rare[1])
        few = {name: value for name in FEW if (value := getattr(snapshots, name))}
        parts += [f', "{name}": {json.dumps(value)}' for name, value in few.items()]
        if snapshots.tables:
            parts.append(f', "tables": {json.dumps(list(map(_table, snapshots.tables.values())))}')
        if snapshots.asked:
            parts.append(f', "asked": {json.dumps(list(map(_asked, snapshots.asked)))}')
        parts.append("}")
        return Position("".join(parts).encode())


def decode(position: Position) -> Standpoint:
    """Raises ``postgres.position_damaged`` for bytes that `PositionWriter` did not write."""
    try:
        found = json.loads(position)
        if found["v"] != VERSION:
            raise error("position_damaged")
        origin = Origin(**{name: found[name] for name in Origin._fields if name in found})
        partial = Partial(*found["tx"]) if "tx" in found else None
        tables = [_read_table(table) for table in found.get("tables", ())]
        done = set(found["done"])
        lists: dict[str, Any] = {name: dict(found.get(name, ())) for name in LISTS}
        few: dict[str, Any] = {name: found[name] for name in FEW if name in found}
        snapshots = Snapshots(done, {table.oid: table for table in tables}, **lists, **few)
        snapshots.asked = [_read_asked(asked) for asked in found.get("asked", ())]
        return Standpoint(origin, lsn_value(found["lsn"]), partial, snapshots)
    except (ValueError, KeyError, TypeError):
        raise error("position_damaged") from None


def confirmed_lsn(position: Position) -> int:
    """The LSN that may be confirmed once ``position`` is durable."""
    try:
        return lsn_value(json.loads(position)["lsn"])
    except (ValueError, KeyError, TypeError):
        raise error("position_damaged") from None


def _table(table: TableSnapshot) -> dict[str, Any]:
    return {
        "oid": table.oid,
        "bound": table.bound,
        "begun": table.begun,
        "key": [list(part) for part in table.key],
        "cursor": _key(table.cursor),
        "low": _key(table.low),
        "uppers": [_key(key) for key in table.uppers],
        "chunks": [_as_of(as_of) for as_of in table.chunks],
        "points": [[_key(key), _as_of(as_of)] for key, as_of in table.points.items()],
        "owed": sorted(table.owed),
        "complete": table.complete,
        "wipe": table.wipe,
        "rows": table.rows,
    }


def _read_table(found: dict[str, Any]) -> TableSnapshot:
    return TableSnapshot(
        oid=found["oid"],
        bound=found["bound"],
        begun=found["begun"],
        key=tuple(KeyPart(*part) for part in found["key"]),
        cursor=_read_key(found["cursor"]),
        low=_read_key(found["low"]),
        uppers=[tuple(map(_read_value, key)) for key in found["uppers"]],
        chunks=[AsOf(Visible.parse(text), lsn) for text, lsn in found["chunks"]],
        points={
            tuple(map(_read_value, key)): AsOf(Visible.parse(as_of[0]), as_of[1]) if as_of else None
            for key, as_of in found["points"]
        },
        owed=set(found["owed"]),
        complete=found["complete"],
        wipe=found["wipe"],
        rows=found.get("rows", 0),
    )


def _asked(asked: Asked) -> dict[str, Any]:
    return {**vars(asked), "cursor": _key(asked.cursor)}


def _read_asked(found: dict[str, Any]) -> Asked:
    key = tuple(KeyPart(*part) for part in found.get("key", ()))
    return Asked(**{**found, "key": key, "cursor": _read_key(found["cursor"])})


def _key(key: Key | None) -> list[int | str] | None:
    if key is None:
        return None
    return [v if isinstance(v, int) else v.decode("utf-8", "surrogateescape") for v in key]


def _read_key(found: list[int | str] | None) -> Key | None:
    return None if found is None else tuple(map(_read_value, found))


def _read_value(value: int | str) -> int | bytes:
    return value if isinstance(value, int) else value.encode("utf-8", "surrogateescape")


def _as_of(as_of: AsOf | None) -> list[str | int] | None:
    return None if as_of is None else [str(as_of.visible), as_of.lsn]
