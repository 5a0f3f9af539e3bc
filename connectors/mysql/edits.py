"""What a statement changes of a table's structure, and a structure after that. Pure.

The order of columns afterwards is that of ``mysql_prepare_alter_table`` in both servers' sources:
names of columns to be changed are those before the statement, however many it changes, and names
that others are put behind are those after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from connectors.mysql.declared import UNORDERED, recharged, resized
from connectors.mysql.structures import Structure
from connectors.mysql.types import character_bytes_max
from connectors.mysql.wire import Type, WireColumn

_OWN_KEY: Final = "my_row_id"
"""The column that MySQL makes for a table without a key (sql_generate_invisible_primary_key). It
may stay before what is to be the first one."""

_BLOBS: Final = (Type.BLOB, Type.BLOB_COMPRESSED)


class Edit(NamedTuple):
    """One change of a structure: a column ``added``, ``removed``, ``modified`` (also to another
    name) or ``renamed`` to ``names[0]``; the ``key`` made of ``names``, or of what it is made of
    now without any; the ``charset`` of columns that say none; all text ``converted`` to a charset.
    ``place``: behind which column, the empty string for the first place, None for where it is or
    the end. ``optional``: it has IF EXISTS or IF NOT EXISTS."""

    kind: Literal["added", "removed", "modified", "renamed", "key", "charset", "converted"]
    name: str = ""
    column: WireColumn | None = None
    place: str | None = None
    names: tuple[str, ...] = ()
    optional: bool = False


class _MisfitError(Exception):
    """An edit of something that is not there."""


def applied(structure: Structure, edits: Sequence[Edit]) -> Structure | None:
    """A structure after the edits of one statement; None where they do not fit, or what comes of
    them cannot be told."""
    try:
        return _Altered(structure, edits).result()
    except _MisfitError:
        return None


class _Altered:
    def __init__(self, structure: Structure, edits: Sequence[Edit]) -> None:
        self._structure = structure
        self._charset = structure.charset
        self._renamed: dict[str, str] = {}
        self._edits = [edit for edit in edits if self._concerns(edit)]
        self._converts = any(edit.kind == "converted" for edit in self._edits)

    def _concerns(self, edit: Edit) -> bool:
        """Whether an edit does anything."""
        if not edit.optional:
            return True
        there = any(_same(c.name, edit.name) for c in self._structure.columns)
        return there is not (edit.kind == "added")

    def result(self) -> Structure:
        charsets = {edit.name for edit in self._edits if edit.kind in ("charset", "converted")}
        if len(charsets) > 1:
            # The servers differ in which of them counts for what.
            raise _MisfitError
        if self._converts and any(map(_may_be_converted, self._edits)):
            raise _MisfitError
        self._charset = next(iter(charsets), self._charset)
        columns = self._arranged(self._kept())
        names = [column.name.lower() for column in columns]
        if len(set(names)) < len(names):
            raise _MisfitError
        key = self._key()
        if any(part.lower() not in names for part in key):
            raise _MisfitError
        indexes = tuple(names.index(part.lower()) for part in key)
        before = self._structure
        same = [before.columns[i].name for i in before.key] == [columns[i].name for i in indexes]
        ordering = before.ordering if same else (UNORDERED,) * len(indexes)
        columns = [
            column._replace(nullable=column.nullable and i not in indexes)
            for i, column in enumerate(columns)
        ]
        return replace(
            before, columns=tuple(columns), key=indexes, ordering=ordering, charset=self._charset
        )

    def _kept(self) -> list[WireColumn]:
        """The columns of before that stay where they are."""
        found, used = [], 0
        for column in self._structure.columns:
            edit = self._edit_of(column.name)
            used += edit is not None
            if edit is not None and edit.kind == "removed":
                continue
            after = self._after(column, edit)
            self._renamed[column.name.lower()] = after.name
            if edit is None or edit.place is None:
                found.append(after)
        if used < sum(edit.kind in ("removed", "modified", "renamed") for edit in self._edits):
            raise _MisfitError
        return found

    def _edit_of(self, name: str) -> Edit | None:
        wanted = ("removed", "modified", "renamed")
        return next((e for e in self._edits if e.kind in wanted and _same(e.name, name)), None)

    def _after(self, column: WireColumn, edit: Edit | None) -> WireColumn:
        if edit is not None and edit.kind == "renamed":
            column = column._replace(name=edit.names[0])
        elif edit is not None and edit.column is not None:
            return resized(edit.column, self._charset)
        return self._converted(column) if self._converts else column

    def _converted(self, column: WireColumn) -> WireColumn:
        if not column.charset:
            return column
        before, after = character_bytes_max(column.charset), character_bytes_max(self._charset)
        if self._charset == "binary" or (column.type in _BLOBS and after > before):
            # It may be a larger type afterwards.
            raise _MisfitError
        if column.labels:
            # MySQL takes the labels' bytes for ones of the new charset, and may have shown others.
            raise _MisfitError
        return recharged(column, self._charset)

    def _arranged(self, columns: list[WireColumn]) -> list[WireColumn]:
        """With those that are added or put elsewhere, in the statement's order."""
        for edit in self._edits:
            if edit.column is None or (edit.kind == "modified" and edit.place is None):
                continue
            at = len(columns)
            if edit.place is not None:
                names = [column.name.lower() for column in columns]
                if edit.place and edit.place.lower() not in names:
                    raise _MisfitError
                if not edit.place and _OWN_KEY in names:
                    raise _MisfitError
                at = names.index(edit.place.lower()) + 1 if edit.place else 0
            columns.insert(at, resized(edit.column, self._charset))
        return columns

    def _key(self) -> list[str]:
        before = self._structure
        names = [before.columns[i].name.lower() for i in before.key]
        key = [self._renamed[name] for name in names if name in self._renamed]
        added = {edit.column.name.lower() for edit in self._edits if edit.column}
        if any(name in added and name not in self._renamed for name in names):
            # The key may be of the new column of this name.
            raise _MisfitError
        edits = [edit for edit in self._edits if edit.kind == "key"]
        if not edits:
            return key
        # The old key goes before the new one comes, whatever the order.
        return [name for edit in edits for name in edit.names]


def _may_be_converted(edit: Edit) -> bool:
    """Columns that the statement brings may be converted too, and what a BLOB or TEXT then is goes
    with MySQL by the size of the column before."""
    column = edit.column
    return column is not None and (bool(column.charset) or column.type in _BLOBS)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
