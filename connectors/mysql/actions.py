"""The actions of ALTER TABLE and the parts of CREATE TABLE, as edits of a structure. Pure.

Source: MySQL Reference Manual, "ALTER TABLE Statement"; MariaDB Knowledge Base, "ALTER TABLE".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from connectors.mysql.declared import INHERITED
from connectors.mysql.definitions import charset, charset_named, definition
from connectors.mysql.edits import Edit
from connectors.mysql.words import Name, Reader, Word, split

_INDEXES: Final = ("index", "key", "unique", "fulltext", "spatial", "foreign", "check")
_OF_PARTITIONS: Final = ("drop", "truncate", "exchange", "import", "convert")
"""What is done to partitions so that rows come or go without events."""


class Actions(NamedTuple):
    """``edits`` is None where something was not understood."""

    edits: list[Edit] | None
    target: Name | None = None
    compared: tuple[Name, ...] = ()


def actions(
    found: Sequence[Word], table: Name, sql_mode: int, *, mariadb: bool
) -> Actions:  # fmt: skip
    """What is behind ``ALTER TABLE name``."""
    reading = _Reading(table, sql_mode, mariadb)
    for part in split(found):
        reading.action(Reader(part))
    edits = reading.edits if reading.known else None
    return Actions(edits, reading.target, tuple(reading.compared))


def columns_of(
    found: Sequence[Word], sql_mode: int, *, mariadb: bool
) -> list[Edit] | None:  # fmt: skip
    """What is in the parentheses of CREATE TABLE; None where it was not understood."""
    reading = _Reading(("", ""), sql_mode, mariadb)
    for part in split(found):
        reading.added(Reader(part))
    return reading.edits if reading.known else None


def options(found: Sequence[Word]) -> list[Edit] | None:
    """Options of a table, as far as they are about its columns; None where they may be anything,
    such as a SELECT."""
    reader, edits = Reader(found), []
    while reader:
        if reader.sees("with", "system") or reader.sees("select") or reader.sees("as"):
            return None
        if reader.takes_one("comment", "connection", "directory"):
            reader.takes("=")
            reader.next()
        elif reader.takes("partition"):
            break
        name = charset(reader)
        if name is not None and name != INHERITED:
            edits.append(Edit("charset", name))
        elif name is None and reader.inner() is None:
            reader.next()
    return edits


@dataclass
class _Reading:
    table: Name
    sql_mode: int
    mariadb: bool

    def __post_init__(self) -> None:
        self.edits: list[Edit] = []
        self.target: Name | None = None
        self.compared: list[Name] = []
        self.known = True

    def action(self, reader: Reader) -> None:
        """One action of ALTER TABLE."""
        if self._of_partitions(reader):
            return
        readers: dict[str, Callable[[Reader], None]] = {
            "add": self._add, "drop": self._drop, "rename": self._rename, "modify": self._modify,
            "change": self._change, "convert": self._convert, "alter": lambda _: None,
        }  # fmt: skip
        verb = reader.takes_one(*readers)
        if verb:
            readers[verb](reader)
            return
        found = options(reader.rest)
        self.edits += found or ()
        self.known = self.known and found is not None

    def _of_partitions(self, reader: Reader) -> bool:
        """Whether an action is about partitions or table spaces."""
        for verb in _OF_PARTITIONS:
            if reader.sees(verb, "partition") or reader.sees(verb, "tablespace"):
                self.compared.append(self.table)
                while reader:
                    if reader.takes("table") and (other := reader.table(self.table[0])):
                        self.compared.append(other)
                    reader.next()
                return True
        if reader.takes("convert", "table"):
            other = reader.table(self.table[0])
            self.compared += [self.table, *filter(None, [other])]
            return True
        return False

    def _add(self, reader: Reader) -> None:
        if reader.sees("partition") or reader.sees("period", "for"):
            return
        if reader.sees("system", "versioning"):
            self.known = False
            return
        column = reader.takes("column")
        optional = reader.takes("if", "not", "exists")
        inner = reader.inner()
        if inner is None:
            self.added(reader, named=column, optional=optional)
            return
        for part in split(inner):
            self.added(Reader(part), optional=optional)

    def added(self, reader: Reader, *, named: bool = False, optional: bool = False) -> None:
        """A column or a key; ``named``: it is a column for sure."""
        if not named:
            if reader.takes("constraint") and not reader.sees("primary", "key"):
                if not any(reader.sees(word) for word in _INDEXES):
                    reader.name()
                if not reader.sees("primary", "key"):
                    return
            if reader.takes("primary", "key"):
                self._key(reader)
                return
            if any(reader.sees(word) for word in _INDEXES) or reader.sees("period", "for"):
                return
            if reader.sees("vector", "index") or reader.sees("vector", "key"):
                return
        self._defined("added", reader, optional=optional)

    def _key(self, reader: Reader) -> None:
        while reader and not reader.sees("("):
            reader.next()
        parts = [Reader(part) for part in split(reader.inner() or [])]
        names = [part.name() for part in parts]
        if None in names or not names:
            self.known = False
            return
        self.edits.append(Edit("key", names=tuple(str(name) for name in names)))

    def _defined(
        self, kind: Literal["added", "modified"], reader: Reader, *, name: str = "",
        optional: bool = False,
    ) -> None:  # fmt: skip
        found = definition(list(reader.rest), self.sql_mode, mariadb=self.mariadb)
        if found is None:
            self.known = False
            return
        column = found.column
        self.edits.append(Edit(kind, name or column.name, column, found.place, (), optional))
        if found.key:
            self.edits.append(Edit("key", names=(column.name,)))

    def _drop(self, reader: Reader) -> None:
        if reader.sees("period", "for"):
            return
        if reader.sees("system", "versioning"):
            self.known = False
        elif reader.takes("primary"):
            self.edits.append(Edit("key"))
        elif reader.takes("foreign") or reader.takes("check"):
            return
        elif reader.takes_one("index", "key", "constraint"):
            reader.takes("if", "exists")
            if (reader.name() or "").lower() == "primary":
                self.edits.append(Edit("key"))
        else:
            reader.takes("column")
            optional = reader.takes("if", "exists")
            name = reader.name()
            self.known = self.known and name is not None
            self.edits.append(Edit("removed", name or "", optional=optional))

    def _rename(self, reader: Reader) -> None:
        if reader.takes_one("index", "key"):
            return
        if reader.takes("column"):
            optional = reader.takes("if", "exists")
            before = reader.name()
            after = reader.name() if reader.takes("to") else None
            if before is None or after is None:
                self.known = False
            else:
                self.edits.append(Edit("renamed", before, names=(after,), optional=optional))
            return
        if not reader.takes_one("to", "as"):
            reader.takes("=")
        self.target = reader.table(self.table[0])
        self.known = self.known and self.target is not None

    def _modify(self, reader: Reader) -> None:
        reader.takes("column")
        self._defined("modified", reader, optional=reader.takes("if", "exists"))

    def _change(self, reader: Reader) -> None:
        reader.takes("column")
        optional = reader.takes("if", "exists")
        name = reader.name()
        self._defined("modified", reader, name=name or "", optional=optional)

    def _convert(self, reader: Reader) -> None:
        reader.takes("to")
        name = charset(reader)
        if name in (None, INHERITED, "default"):
            self.known = False
        else:
            self.edits.append(Edit("converted", charset_named(str(name))))
