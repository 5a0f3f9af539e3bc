"""How a snapshot meets the stream: which streamed changes its rows already cover. Pure: no I/O.

A table's key range is read in chunks, each in one transaction whose `AsOf` says what it saw. For a
streamed change of transaction X, a key then stands in one of three ways:

- **unread**: no chunk has reached it. The change is suppressed; the chunk to come will show it. X
  is remembered as owed, since the server may send a commit before new snapshots see it: a chunk
  whose snapshot does not see an owed transaction would lose the change, and must be taken again.
- **covered**: its chunk's snapshot saw X. Suppressed: the snapshot's row has it.
- **live**: its chunk's snapshot did not see X. The row of the snapshot is the base, X follows it.

Once the stream has passed a chunk's LSN, X can only be live there, and the chunk is forgotten. An
update that moves a row's key from one standing to another becomes what the topic can see of it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from connectors.postgres.catalog import KeyPart
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import split_images
from ensign_core.change import NEW_IMAGE, OLD_IMAGE, UNCHANGED, Op, Schema
from ensign_core.rows import ABSENT, Value, decode, new_image, split

OWED_MAX = 1000
"""Transactions owed to one table after which those that became visible are looked for."""

NEVER = 1 << 64
"""An LSN behind all others."""

Key = tuple[int | bytes, ...]
"""A key's values as they compare: integers, else the bytes of the text."""


class Visible(NamedTuple):
    """A ``pg_snapshot``: what it sees. PostgreSQL documentation, "Transaction ID and Snapshot
    Information Functions". Its ids are 64 bits wide and name no subtransactions."""

    xmin: int
    xmax: int
    xip: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visible:
        """From ``xmin:xmax:xip,...``."""
        xmin, xmax, xip = text.split(":")
        return cls(
            int(xmin), int(xmax), frozenset(map(int, xip.split(","))) if xip else frozenset()
        )

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.xip)))}"

    def sees(self, xid: int) -> bool:
        """Whether the committed transaction ``xid`` (32 bits, as streamed) is visible: its epoch is
        the one that brings it nearest to this snapshot."""
        ahead = (xid - self.xmax) & 0xFFFFFFFF
        if ahead < 1 << 31:
            return False
        return self.xmax + ahead - (1 << 32) not in self.xip


class AsOf(NamedTuple):
    """When a chunk was read. A transaction whose commit record begins at or after ``lsn`` is not
    seen by the snapshot."""

    visible: Visible
    lsn: int


class Standing(Enum):
    UNREAD = auto()
    COVERED = auto()
    LIVE = auto()


@dataclass
class TableSnapshot:
    """How far the snapshot of one table is.

    ``begun``: ``key`` is known, which is empty where the table is one chunk. ``uppers`` are the
    upper bounds of the first of ``chunks``; the last chunk of a complete table has none. All up to
    ``low`` was read and passed by the stream. ``points`` are single keys that are read again, None
    while they are not. ``bound``: the first chunk's snapshot must have all transactions before it
    behind it. ``wipe``: rows read before are void, and a truncate goes before the next chunk.
    ``rows`` are those that were read. ``owed`` are the transactions of suppressed changes.
    """

    oid: int
    bound: int | None = None
    begun: bool = False
    key: tuple[KeyPart, ...] = ()
    cursor: Key | None = None
    low: Key | None = None
    uppers: list[Key] = field(default_factory=list)
    chunks: list[AsOf] = field(default_factory=list)
    points: dict[Key, AsOf | None] = field(default_factory=dict)
    owed: set[int] = field(default_factory=set)
    complete: bool = False
    wipe: bool = False
    rows: int = 0

    @property
    def settled(self) -> bool:
        """Whether everything is read and passed: the table needs no filter any more."""
        return self.complete and not self.chunks and not self.points

    def void(self) -> None:
        """Start over, since what was read does not go with what comes: a truncate goes first."""
        self.wipe = self.wipe or self.complete or bool(self.chunks) or self.low is not None
        self.restart()

    def restart(self) -> None:
        """Start over: all of the table is unread."""
        self.begun = False
        self.key = ()
        self.cursor = self.low = None
        self.uppers, self.chunks, self.points = [], [], {}
        self.complete = False
        self.rows = 0

    def ready(self, visible: Visible) -> bool:
        """Whether a chunk may be read in this snapshot."""
        if self.bound is not None and not self.chunks and visible.xmin < self.bound:
            return False
        return all(map(visible.sees, self.owed))

    def read(self, upper: Key | None, as_of: AsOf, rows: int = 0) -> None:
        """A chunk was read up to ``upper``, None for the end of the table."""
        self.chunks.append(as_of)
        self.rows += rows
        if upper is None:
            self.complete = True
        else:
            self.uppers.append(upper)
            self.cursor = upper
        self.bound = None
        self.wipe = False
        self._paid()

    def read_point(self, key: Key, as_of: AsOf) -> None:
        """One row was read again."""
        self.points[key] = as_of
        self._paid()

    def _paid(self) -> None:
        # What one snapshot sees, every later one sees.
        self.owed.clear()

    def pending_point(self) -> Key | None:
        return next((key for key, as_of in self.points.items() if as_of is None), None)

    def passed(self, lsn: int) -> None:
        """The stream has sent every transaction whose commit record begins before ``lsn``."""
        while self.chunks and self.chunks[0].lsn <= lsn:
            self.chunks.pop(0)
            if self.uppers:
                self.low = self.uppers.pop(0)
        if self.points:
            self.points = {k: a for k, a in self.points.items() if a is None or a.lsn > lsn}

    def next_lsn(self) -> int:
        """The LSN that the stream has to pass for a chunk or point to be forgotten."""
        lsns = [as_of.lsn for as_of in self.points.values() if as_of]
        return min([*lsns, self.chunks[0].lsn] if self.chunks else lsns, default=NEVER)

    def standing(self, key: Key, xid: int) -> Standing:
        """How the key stands for a change of transaction ``xid``."""
        as_of: AsOf | None
        if self.points and key in self.points:
            as_of = self.points[key]
            if as_of is None:
                return Standing.UNREAD
        else:
            if not self.complete and (self.cursor is None or key > self.cursor):
                return Standing.UNREAD
            if self.low is not None and key <= self.low:
                return Standing.LIVE
            at = bisect_left(self.uppers, key)
            if at >= len(self.chunks):
                return Standing.LIVE
            as_of = self.chunks[at]
        return Standing.COVERED if as_of.visible.sees(xid) else Standing.LIVE


@dataclass
class Asked:
    """An ad hoc snapshot of one table (or of its partition ``part``) that is streamed already: its
    rows are placed where the stream passes their as-of point, and suppress nothing. ``reconcile``:
    only what the topic lacks or has otherwise. All up to ``cursor`` in the order of ``key`` was
    read."""

    oid: int
    part: int = 0
    where: str | None = None
    reconcile: bool = False
    key: tuple[KeyPart, ...] = ()
    cursor: Key | None = None
    rows: int = 0


def judge(
    table: TableSnapshot, schema: Schema, op: Op, xid: int, body: bytes
) -> tuple[Op, bytes] | None:
    """What the topic gets of a streamed row change of ``table``: None, or an event."""
    if not table.begun:
        table.owed.add(xid)
        return None
    if not table.key:
        if table.complete and table.standing((), xid) is Standing.LIVE:
            return op, body
        if not table.complete:
            table.owed.add(xid)
        return None
    places = _places(table, schema)
    if places is None:
        table.void()
        table.owed.add(xid)
        return None
    old, new = split_images(body)
    if old and new:
        return _judge_update(table, places, xid, body, (old, new))
    row = new or old
    standing = table.standing(_key(table, places, row, b""), xid)
    if standing is Standing.UNREAD:
        table.owed.add(xid)
    return (op, body) if standing is Standing.LIVE else None


def _judge_update(
    table: TableSnapshot, places: list[int], xid: int, body: bytes, images: tuple[bytes, bytes]
) -> tuple[Op, bytes] | None:
    """An update with an old image: its key may have moved."""
    old, new = images
    new_key = _key(table, places, new, old)
    before = table.standing(_key(table, places, old, b""), xid)
    after = table.standing(new_key, xid)
    if Standing.UNREAD in (before, after):
        table.owed.add(xid)
    if before is Standing.LIVE:
        # Where the row went, a chunk shows it; the row that the topic has is gone.
        return (Op.UPDATE, body) if after is Standing.LIVE else (Op.DELETE, old)
    if after is not Standing.LIVE:
        return None
    filled = _filled(old, new)
    if filled is None:
        # The topic has no base that the unchanged columns could come from.
        table.points[new_key] = None
        table.owed.add(xid)
        return None
    return Op.INSERT, filled


def judge_truncate(table: TableSnapshot, xid: int) -> bool:
    """Whether the topic gets a truncate of ``table``."""
    views = [as_of.visible.sees(xid) for as_of in table.chunks]
    views += [as_of.visible.sees(xid) for as_of in table.points.values() if as_of]
    if table.low is not None:
        views.append(False)
    if not table.complete or table.pending_point() is not None:
        table.owed.add(xid)
    if all(views):
        return False
    if any(views):
        table.restart()
        table.owed.add(xid)
    return True


def _places(table: TableSnapshot, schema: Schema) -> list[int] | None:
    """The indexes of the key's columns in streamed rows; None if the table's key is another one
    there, or of types that order otherwise."""
    by_name = {schema.columns[i].name: i for i in schema.key}
    if {(name, schema.columns[i].logical) for name, i in by_name.items()} != set(table.key):
        return None
    return [by_name[part.name] for part in table.key]


def _key(table: TableSnapshot, places: list[int], image: bytes, fallback: bytes) -> Key:
    """The key in an image (with its marker); what it leaves out is in ``fallback``."""
    kinds, values = split(image[1:])
    old: list[bytes] | None = None
    found: list[int | bytes] = []
    for part, place in zip(table.key, places, strict=True):
        value = values[place]
        if kinds[place] == UNCHANGED:
            if not fallback:
                raise error("protocol_damaged")
            old = old or split(fallback[1:])[1]
            value = old[place]
        found.append(comparable(part, value))
    return tuple(found)


def comparable(part: KeyPart, text: bytes) -> int | bytes:
    """A key column's text as a value that orders as the server orders it: integers by value, uuid
    and text under the C collation by their bytes."""
    return int(text) if part.kind == "int" else text


def _filled(old: bytes, new: bytes) -> bytes | None:
    """The new image with its unchanged columns taken from a full old one; None if some are left."""
    kinds = split(new[1:])[0]
    if UNCHANGED not in kinds:
        return new
    if old[0] != OLD_IMAGE:
        return None
    before = decode(old[1:])
    values: list[Value] = [
        before[i] if value is ABSENT else value for i, value in enumerate(decode(new[1:]))
    ]
    assert new[0] == NEW_IMAGE
    return None if ABSENT in values else new_image(values)
