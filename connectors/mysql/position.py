"""The source's position: JSON, in the bytes that the core stores with the data they cover.

    {"v": 1, "server": "uuid", "mode": "gtid" | "mariadb" | "file", "file": "binlog.000003",
     "made_s": N, "offset": 1234, "gtids": "...", "tx": [id, file, offset, N, N, 0 | 1] | absent,
     "left": [[id, file, offset, N, N, 0 | 1], ...] | absent,
     "waiting": ["shop.orders", ...], "tables": [{...}, ...], "asked": [{...}, ...],
     "stopped": {"shop.odd": "structure_unknown"}, "prepared": {"xid": [file, offset]},
     "signal": N, "paused": true, "gap": true, "tables_read": N, "rows_read": N}

``gtids`` are the transactions consumed: a GTID set of MySQL, a position of MariaDB; in mode
``file`` it is empty. ``file`` and ``offset`` are the end of the last complete one in the log of
``server``; ``made_s`` (since 1970) is when that file was begun, which tells it from one of its name
in a log that was reset. ``tx`` is the transaction behind it, as far as its rows were consumed, and
``left`` are others with consumed rows that are still to come: a server had them in another order.
``waiting`` are tables whose snapshot has not begun, ``tables`` those where it has. That a table is
known and done with, and its structure, is in the kept pieces (`connectors.mysql.structures`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from connectors.mysql.errors import error
from connectors.mysql.snapshot import Asked, Key, KeyPart, TableSnapshot
from ensign_core.change import Position

VERSION = 1

Mode = Literal["gtid", "mariadb", "file"]

FEW = ("stopped", "prepared", "signal", "paused", "gap", "tables_read", "rows_read")
"""Fields of `Snapshots` that are written as they are, where they are not empty."""


class Place(NamedTuple):
    """A place in the binary log of one server; the empty one is before all others."""

    file: str = ""
    offset: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """How places compare: by the number of the file first."""
        number = self.file.rpartition(".")[2]
        return (int(number) if number.isdigit() else -1, self.offset)

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


class Partial(NamedTuple):
    """A transaction of which the first ``taken`` events of rows were consumed, with ``rows`` that
    were captured; ``start`` is where it starts; ``marked``: a marker of its begin was returned."""

    id: str
    start: Place
    taken: int
    rows: int
    marked: bool = False

    def encode(self) -> list[Any]:
        """As a position has it."""
        return [self.id, *self.start, self.taken, self.rows, int(self.marked)]


@dataclass
class Snapshots:
    """The state of all snapshots. ``stopped`` are tables whose rows cannot be read, with the word
    of the error and what it names. ``prepared`` are XA transactions that wait for their commit, and
    where they start (empty: they have no captured rows). ``signal`` is the number of the last
    signal that was taken in, and while ``paused`` no chunk is read. ``asked`` are the ad hoc
    snapshots to come, in order; while there is a ``gap`` they close it, and are not given up.
    ``tables_read`` and ``rows_read`` count those tables that are done while others are not, for the
    progress."""

    tables: dict[str, TableSnapshot] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, list[Any]] = field(default_factory=dict)
    signal: int = 0
    paused: bool = False
    gap: bool = False
    tables_read: int = 0
    rows_read: int = 0

    def take_up(self, name: str, *, wipe: bool) -> None:
        """A table is to be read; ``wipe``: there may be rows under its name already."""
        self.tables[name] = TableSnapshot(name, wipe=wipe)

    def leave(self, name: str) -> None:
        """A table is not captured any more."""
        self.tables.pop(name, None)
        self.stopped.pop(name, None)
        left = [asked for asked in self.asked if asked.name != name]
        if self.asked and not left:
            self.gap = False
        self.asked = left

    def done(self, name: str) -> None:
        """All of a table was read."""
        table = self.tables.pop(name)
        self.over(table.rows)

    def over(self, rows: int) -> None:
        """A table was read, with so many rows."""
        self.tables_read += 1
        self.rows_read += rows
        if not self.tables and not self.asked:
            self.tables_read = self.rows_read = 0

    @property
    def pending(self) -> bool:
        """Whether there is something to read that nobody has paused, and that can be read."""
        if self.paused:
            return False
        names = self.tables.keys() | {asked.name for asked in self.asked}
        return not names <= self.stopped.keys()


class Standpoint(NamedTuple):
    """A decoded position. ``partials`` are the transactions of which some rows were consumed;
    ``made_s`` is 0 where an earlier version wrote it."""

    server: str
    mode: Mode
    place: Place
    gtids: str
    partials: tuple[Partial, ...]
    snapshots: Snapshots
    made_s: int = 0


class PositionWriter:
    """Encodes positions; what does not change from one to the next is encoded once."""

    def __init__(self, server: str, mode: Mode) -> None:
        self._prefix = json.dumps({"v": VERSION, "server": server, "mode": mode})[:-1]
        self._waiting: tuple[list[str], str] = ([], "")

    def encode(
        self,
        place: Place,
        gtids: str,
        partials: Sequence[Partial],
        snapshots: Snapshots,
        made_s: int,
    ) -> Position:
        """The position bytes; see the top of this module."""
        parts = [
            f'{self._prefix}, "file": "{place.file}", "offset": {place.offset}, "gtids": "{gtids}"'
        ]
        if made_s:
            parts.append(f'"made_s": {made_s}')
        if partials:
            *left, under_way = [partial.encode() for partial in partials]
            parts.append(f'"tx": {json.dumps(under_way)}')
            if left:
                parts.append(f'"left": {json.dumps(left)}')
        if snapshots.tables:
            waiting = [t.name for t in snapshots.tables.values() if not t.begun and not t.wipe]
            begun = [_table(t) for t in snapshots.tables.values() if t.begun or t.wipe]
            if waiting != self._waiting[0]:
                self._waiting = waiting, json.dumps(waiting)
            if waiting:
                parts.append(f'"waiting": {self._waiting[1]}')
            if begun:
                parts.append(f'"tables": {json.dumps(begun)}')
        if snapshots.asked:
            parts.append(f'"asked": {json.dumps(list(map(_asked, snapshots.asked)))}')
        few = {name: value for name in FEW if (value := getattr(snapshots, name))}
        parts += [f'"{name}": {json.dumps(value)}' for name, value in few.items()]
        return Position((", ".join(parts) + "}").encode())


def decode(position: Position) -> Standpoint:
    """Raises ``mysql.position_damaged`` for bytes that `PositionWriter` did not write."""
    try:
        found = json.loads(position)
        if found["v"] != VERSION or found["mode"] not in ("gtid", "mariadb", "file"):
            raise error("position_damaged")
        tables = [_read_table(table) for table in found.get("tables", ())]
        tables += [TableSnapshot(name) for name in found.get("waiting", ())]
        few: dict[str, Any] = {name: found[name] for name in FEW if name in found}
        snapshots = Snapshots({table.name: table for table in tables}, **few)
        snapshots.asked = [_read_asked(asked) for asked in found.get("asked", ())]
        partials = tuple(
            Partial(tx, Place(file, offset), taken, rows, bool(marked))
            for tx, file, offset, taken, rows, marked in (
                *found.get("left", ()), *((found["tx"],) if "tx" in found else ())
            )
        )  # fmt: skip
        place = Place(found["file"], found["offset"])
        return Standpoint(
            found["server"], found["mode"], place, found["gtids"], partials, snapshots,
            int(found.get("made_s", 0)),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        raise error("position_damaged") from None


def _table(table: TableSnapshot) -> dict[str, Any]:
    return {**vars(table), "cursor": _key(table.cursor)}


def _read_table(found: dict[str, Any]) -> TableSnapshot:
    key = tuple(KeyPart(*part) for part in found["key"])
    return TableSnapshot(**{**found, "key": key, "cursor": _read_key(found["cursor"])})


def _asked(asked: Asked) -> dict[str, Any]:
    told = {**vars(asked), "cursor": _key(asked.cursor)}
    # There may be thousands that wait.
    return {name: value for name, value in told.items() if value}


def _read_asked(found: dict[str, Any]) -> Asked:
    key = tuple(KeyPart(*part) for part in found.get("key", ()))
    return Asked(**{**found, "key": key, "cursor": _read_key(found.get("cursor"))})


def _key(key: Key | None) -> list[int | str] | None:
    if key is None:
        return None
    return [v if isinstance(v, int) else v.decode("utf-8", "surrogateescape") for v in key]


def _read_key(found: list[int | str] | None) -> Key | None:
    if found is None:
        return None
    return tuple(v if isinstance(v, int) else v.encode("utf-8", "surrogateescape") for v in found)
