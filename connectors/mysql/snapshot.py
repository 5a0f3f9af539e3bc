"""How a snapshot meets the stream: which streamed changes its rows already cover. Pure: no I/O.

A table is read in chunks of its key's range, each in one transaction with a consistent snapshot.
A chunk's rows are returned when the stream stands at the *gate*: a position of the binary log
behind everything that the chunk's transaction can have seen. All up to `TableSnapshot.cursor` is
then *live*, its changes follow as they come; what is behind it is *unread*, and its changes are
suppressed, since the chunk to come shows them.

Where the server cannot tell whether a transaction saw a change that the stream brought of the
chunk's table (its *window*: from the first such change to the gate), it is put into the rows that
were read: each row is then as of the gate, whether the transaction saw the change or not. (The idea
is that of DBLog: Andreakis and Papapanagiotou, "DBLog: A Watermark Based Change-Data-Capture
Framework".) A change that cannot be put into the rows makes the chunk void: it is taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from connectors.mysql.gtid_events import Gtid
from connectors.mysql.gtids import GtidSet
from ensign_core.change import KEY_IMAGE, NEW_IMAGE, UNCHANGED, Op, Schema, image_end
from ensign_core.rows import ABSENT, Value, decode, encode, split

Key = tuple[int | bytes, ...]
"""A key's values as they compare."""

RawKey = tuple[bytes, ...]
"""A key's values as they lie in a row."""


class KeyPart(NamedTuple):
    """A column of the key a table is read by: how it sorts, and how long it can be (bytes)."""

    name: str
    sorts: str
    length: int = 0


@dataclass
class TableSnapshot:
    """How far the snapshot of one table is. ``begun``: ``key`` is known, which is empty where the
    table is read in one chunk. ``wipe``: a truncate goes before the next chunk. ``rows`` are those
    that were read."""

    name: str
    begun: bool = False
    key: tuple[KeyPart, ...] = ()
    cursor: Key | None = None
    wipe: bool = False
    rows: int = 0

    def void(self) -> None:
        """Start over, since what was read does not go with what comes: a truncate goes first."""
        self.wipe = self.wipe or self.cursor is not None
        self.begun = False
        self.key = ()
        self.cursor = None
        self.rows = 0

    def live(self, key: Key) -> bool:
        """Whether the topic has the row of a key already."""
        return self.cursor is not None and key <= self.cursor


@dataclass
class Asked:
    """An ad hoc snapshot of one table that is streamed already: its rows are placed where the
    stream passes their gate, and suppress nothing. ``reconcile``: only what the topic lacks or has
    otherwise. All up to ``cursor`` in the order of ``key`` was read."""

    name: str
    where: str | None = None
    reconcile: bool = False
    key: tuple[KeyPart, ...] = ()
    cursor: Key | None = None
    rows: int = 0


class NotToldError(Exception):
    """What the topic has to get cannot be told from the images that came."""


PAD: Final = b" "


def comparable(part: KeyPart, value: bytes) -> int | bytes:
    """A key column's value as one that sorts as the server sorts it."""
    if part.sorts == "int":
        return int(value)
    return value.ljust(part.length, PAD) if part.sorts == "padded" else value


def places_of(key: Sequence[KeyPart], schema: Schema) -> list[int] | None:
    """The indexes of the key's columns in rows of a schema; None where its key is another one."""
    by_name = {schema.columns[i].name: i for i in schema.key}
    if by_name.keys() != {part.name for part in key}:
        return None
    return [by_name[part.name] for part in key]


def key_of(key: Sequence[KeyPart], places: Sequence[int], row: bytes) -> Key:
    """The key of a row, without its marker."""
    values = split(row)[1]
    return tuple(comparable(part, values[i]) for part, i in zip(key, places, strict=True))


def images(body: bytes) -> tuple[bytes, bytes]:
    """The old and the new image of a body with their markers; empty where there is none."""
    if body[0] == NEW_IMAGE:
        return b"", body
    middle = image_end(body, 1)
    return body[:middle], body[middle:]


def judge(table: TableSnapshot, schema: Schema, op: Op, body: bytes) -> tuple[Op, bytes] | None:
    """What the topic gets of a streamed row change of ``table``: None, or an event."""
    if not table.begun or not table.key:
        return None
    places = places_of(table.key, schema)
    if places is None:
        table.void()
        return None
    old, new = images(body)
    if not (old and new):
        row = new or old
        return (op, body) if table.live(key_of(table.key, places, row[1:])) else None
    before = table.live(key_of(table.key, places, old[1:]))
    after = table.live(key_of(table.key, places, new[1:]))
    if before:
        # Where the row went, a chunk shows it; the row that the topic has is gone.
        return (Op.UPDATE, body) if after else (Op.DELETE, old)
    if not after:
        return None
    filled = _filled(old, new)
    if filled is None:
        # The topic has no base that the missing columns could come from.
        table.void()
        return None
    return Op.INSERT, b"N" + filled


def _filled(old: bytes, new: bytes) -> bytes | None:
    """The new row with what it leaves out taken from the old one; None if some are left."""
    row = new[1:]
    if UNCHANGED not in split(row)[0]:
        return row
    if old[0] == KEY_IMAGE:
        return None
    return merged(old[1:], row)


def merged(older: bytes, newer: bytes) -> bytes | None:
    """A row with what it leaves out taken from an older one; None if some are left."""
    before = decode(older)
    values: list[Value] = [
        before[i] if value is ABSENT else value for i, value in enumerate(decode(newer))
    ]
    return None if ABSENT in values else encode(values)


class Window:
    """The changes of a chunk's table that the stream brought while the chunk was under way, from
    the first on that the chunk may lack: those behind it may be of the same rows. It shows for sure
    what is in ``shown``, and all before its gate where it is ``exact``, but for XA transactions,
    whose commit is in the log before it is in the tables."""

    def __init__(self, *, exact: bool, shown: GtidSet) -> None:
        self._exact = exact
        self._shown = shown
        self._changes: list[tuple[Op, Schema, bytes]] = []

    def __len__(self) -> int:
        return len(self._changes)

    def wants(self, begun: Gtid | None, *, xa: bool) -> bool:
        """Whether rows of a transaction may be missing in what was read, or come behind such."""
        if self._changes or self._exact:
            return xa or bool(self._changes)
        return begun is None or not self._shown.has(begun.sid, begun.tag, begun.number)

    def add(self, op: Op, schema: Schema, body: bytes) -> None:
        self._changes.append((op, schema, body))

    def patches(self, schema: Schema) -> Patches:
        """What they make of the rows of a chunk of ``schema``. Raises `NotToldError` where that
        cannot be told: there is no key, another structure, or parts of rows only."""
        patches = Patches(schema)
        for op, found, body in self._changes:
            if found != schema or not schema.key:
                raise NotToldError
            patches.take(op, body)
        return patches


class Patches:
    """By key, the rows that a chunk has as of the gate: None for one that is gone, a row with
    columns left out where the rest is that of the row read."""

    def __init__(self, schema: Schema) -> None:
        self._places = schema.key
        self._rows: dict[RawKey, bytes | None] = {}
        self._seen: set[RawKey] = set()
        self._baseless: set[RawKey] = set()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def take(self, op: Op, body: bytes) -> None:
        """One more change."""
        old, new = images(body)
        before = self._key(old[1:]) if old else None
        if not new:
            assert before is not None
            self._rows[before] = None
            return
        row = new[1:]
        key = self._key(row)
        baseless = before in self._baseless
        if UNCHANGED in split(row)[0]:
            known = self._rows.get(before) if before is not None else None
            if known is not None:
                row = _laid_over(known, row)
            elif old and old[0] != KEY_IMAGE:
                row = _laid_over(old[1:], row)
            baseless = baseless or before != key
        if before is not None:
            self._rows[before] = None
        self._rows[key] = row
        # What is left out of a row that moved is in another row than the one read here.
        if baseless and UNCHANGED in split(row)[0]:
            self._baseless.add(key)
        else:
            self._baseless.discard(key)

    def _key(self, row: bytes) -> RawKey:
        values = split(row)[1]
        return tuple(values[i] for i in self._places)

    def applied(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Rows of the chunk as of the gate. Raises `NotToldError` for one whose columns that were
        left out are not known."""
        found = []
        for body in bodies:
            row = body[1:]
            key = self._key(row)
            if key not in self._rows:
                found.append(body)
                continue
            if key in self._baseless:
                raise NotToldError
            self._seen.add(key)
            patch = self._rows[key]
            if patch is not None:
                found.append(b"N" + (merged(row, patch) or patch))
        return found

    def untouched(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Those of the rows of which the stream has brought no change."""
        return [body for body in bodies if self._key(body[1:]) not in self._rows]

    def added(self, within: Callable[[bytes], bool]) -> list[bytes]:
        """Rows that were not read, once all were, and are ``within`` the chunk. Raises
        `NotToldError` for parts of rows."""
        rows = [
            row
            for key, row in self._rows.items()
            if key not in self._seen and row is not None and within(row)
        ]
        if any(UNCHANGED in split(row)[0] for row in rows):
            raise NotToldError
        return [b"N" + row for row in rows]


def _laid_over(older: bytes, newer: bytes) -> bytes:
    """Both of two parts of a row."""
    before = decode(older)
    return encode([before[i] if v is ABSENT else v for i, v in enumerate(decode(newer))])
