"""The captured tables: how their rows are decoded where the stream stands, and what statements do
to them. On the source's thread.

A structure is that of a table's last full metadata, else what was kept or read from the catalog;
statements advance it. What is known is checked against every table map; where they do not go
together, and the catalog does not help, that table is *stopped*: its rows are left out, with a
warning, until an operator asks for them again, and all others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from connectors.mysql import charsets, ddl, rowimage
from connectors.mysql.catalog import Catalog
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.position import Snapshots
from connectors.mysql.snapshot import Asked
from connectors.mysql.statements import Statement
from connectors.mysql.structures import PIECE, Structure, fits, structure_of
from connectors.mysql.tablemap import TableMap
from ensign_core.change import Op, Schema
from ensign_core.errors import EnsignError

UNREAD: Final = {4: b'"', 1 << 20: b"\\"}
"""Bits of a statement's sql_mode, and the characters that sqlglot then takes for something else:
ANSI_QUOTES, where double quotes are around names, and NO_BACKSLASH_ESCAPES."""

ORACLE: Final = 1 << 9
"""The bit of MariaDB's other language, in which the names of types mean something else."""

CHARSET: Final = "utf8mb4"
"""That of a statement of which the log does not tell it."""


class Route(NamedTuple):
    """How the rows of one table map are decoded."""

    name: str
    schema: Schema
    decoder: rowimage.RowDecoder


class Told(NamedTuple):
    """An event that a statement leads to: its table has another structure, or is empty."""

    op: Op
    schema: Schema


class Tables:
    """One per source. ``structures`` are those of the captured tables, by name; ``versions`` count
    what statements did to each, so that a chunk that was read before is noticed; ``changed`` are
    kept pieces that no batch has yet."""

    def __init__(
        self,
        catalog: Catalog,
        config: MysqlConfig,
        snapshots: Snapshots,
        structures: dict[str, Structure],
        warn: Callable[[EnsignError], None],
        *,
        any_case: bool,
    ) -> None:
        self._catalog = catalog
        self._config = config
        self._snapshots = snapshots
        self.structures = structures
        self._warn = warn
        self._any_case = any_case
        self._schemas = {name: s.schema(config.columns) for name, s in structures.items()}
        self.versions: dict[str, int] = {}
        self.changed: dict[str, bytes] = {}
        self._silent: set[str] = set()

    def schema(self, name: str) -> Schema:
        """The schema of a known table's captured rows."""
        return self._schemas[name]

    def learn(self, structure: Structure) -> bool:
        """What a table is from now on; whether its captured rows are of another schema than
        before."""
        name = structure.name
        if self.structures.get(name) == structure:
            return False
        self.structures[name] = structure
        self.changed[PIECE + name] = structure.encode()
        before = self._schemas.get(name)
        self._schemas[name] = structure.schema(self._config.columns)
        return before != self._schemas[name]

    def forget(self, name: str) -> None:
        """A table is not there any more."""
        if self.structures.pop(name, None) is not None:
            self.changed[PIECE + name] = b""
        self._schemas.pop(name, None)
        self._snapshots.leave(name)
        self._touch(name)

    def _touch(self, name: str) -> None:
        self.versions[name] = self.versions.get(name, 0) + 1

    def route(self, found: TableMap) -> Route | None:
        """How to decode the rows behind a table map; None where they are not captured."""
        name = f"{found.database}.{found.table}"
        if not self._config.captures(found.database, found.table):
            return None
        if name in self._snapshots.stopped:
            return None
        structure = self._structure(name, found)
        if structure is None:
            return None
        try:
            decoder = rowimage.RowDecoder(
                structure.columns, structure.key, structure.keep(self._config.columns)
            )
        except LookupError as unknown:
            self._stop(name, "charset_unknown", what=str(unknown.args[0]))
            return None
        except ValueError:
            self._stop(name, "structure_unknown")
            return None
        return Route(name, self._schemas[name], decoder)

    def _structure(self, name: str, found: TableMap) -> Structure | None:
        """The structure behind a table map, which is known from then on."""
        known = self.structures.get(name)
        fresh = known is None
        named = found.metadata.names is not None
        if known is None or not (named or fits(known, found)):
            read = self._catalog.table(found.database, found.table)
            if read is not None and fits(read, found):
                known = read
            elif not named:
                self._stop(name, "structure_unknown")
                return None
        try:
            structure = structure_of(found, known)
        except LookupError as unknown:
            self._stop(name, "charset_unknown", what=str(unknown.args[0]))
            return None
        if fresh and name not in self._snapshots.tables and self._config.snapshot != "never":
            # Nobody told of it when it was made: what it had until now is in no event.
            self._snapshots.take_up(name, wipe=False)
        if self.learn(structure):
            self._touch(name)
            if not fresh:
                self._silent.add(name)
        return structure

    def _stop(self, name: str, word: str, **facts: object) -> None:
        self._snapshots.stopped[name] = word
        self._touch(name)
        self._warn(error(word, table=name, **facts))

    def resume(self, name: str) -> None:
        """An operator asks for a stopped table: what is it now?"""
        self._snapshots.stopped.pop(name, None)
        database, _, table = name.partition(".")
        found = self._catalog.table(database, table)
        if found is not None:
            self.learn(found)

    def unannounced(self, name: str) -> bool:
        """Whether rows of another structure come than those before, of which no statement told."""
        if name not in self._silent:
            return False
        self._silent.discard(name)
        table = self._snapshots.tables.get(name)
        return table is None or table.cursor is not None

    def statement(self, said: Statement) -> list[Told]:
        """Take in what a statement does, now that the stream has come to it."""
        mode = said.sql_mode or 0
        if mode & ORACLE or any(mode & bit and c in said.statement for bit, c in UNREAD.items()):
            return list(self._anything())
        found = ddl.read(_text(said), said.database, mariadb=self._catalog.mariadb)
        if isinstance(found, ddl.Nothing):
            return []
        if isinstance(found, ddl.Altered):
            return list(self._altered(found))
        if isinstance(found, ddl.Created):
            return list(self._created(found))
        if isinstance(found, ddl.Gone):
            return list(self._gone(found))
        if isinstance(found, ddl.Renamed):
            return list(self._renamed(found))
        if isinstance(found, ddl.Written):
            for name in map(self._name, found.tables):
                if name in self.structures:
                    self._stop(name, "statement_logged")
            return []
        return list(self._anything())

    def _name(self, table: ddl.Name) -> str:
        """The name of a table as it is known here; on some servers the case of letters does not
        count."""
        name = ".".join(table)
        if name in self.structures or not self._any_case:
            return name
        alike = (known for known in self.structures if known.lower() == name.lower())
        return next(alike, name.lower())

    def _altered(self, found: ddl.Altered) -> Iterator[Told]:
        name = self._name(found.table)
        known = self.structures.get(name)
        if known is None:
            return
        self._touch(name)
        parsed = ddl.applied(known, found.edits) if found.edits is not None else None
        read = self._catalog.table(known.database, known.table)
        structure = _likelier(parsed, read)
        if structure is not None:
            yield from self._changed(structure)

    def _changed(self, structure: Structure) -> Iterator[Told]:
        """A table has another structure, perhaps."""
        name = structure.name
        before = self.structures.get(name)
        if not self.learn(structure):
            return
        table = self._snapshots.tables.get(name)
        if table is not None and before is not None and _key(before) != _key(structure):
            table.void()
        if table is None or table.cursor is not None:
            yield Told(Op.SCHEMA, self._schemas[name])

    def _created(self, found: ddl.Created) -> Iterator[Told]:
        name = self._name(found.table)
        database, _, table = name.partition(".")
        if not self._config.captures(database, table):
            return
        if found.replaces:
            yield from self._gone(ddl.Gone((found.table,)))
        if name in self.structures:
            # It was made only if it had not existed.
            return
        empty = Structure(database, table, (), charset=found.charset)
        parsed = ddl.applied(empty, found.edits) if found.edits is not None else None
        structure = _likelier(parsed, self._catalog.table(database, table))
        if structure is not None:
            self.learn(structure)
            yield Told(Op.SCHEMA, self._schemas[name])

    def _gone(self, found: ddl.Gone) -> Iterator[Told]:
        names = [self._name(table) for table in found.tables]
        if found.database:
            prefix = f"{found.database}."
            names += [name for name in self.structures if name.startswith(prefix)]
        for name in names:
            if name not in self.structures:
                continue
            schema = self._schemas[name]
            table = self._snapshots.tables.get(name)
            if table is None or table.cursor is not None or table.wipe:
                yield Told(Op.TRUNCATE, schema)
            if found.emptied:
                self._touch(name)
            else:
                self.forget(name)

    def _renamed(self, found: ddl.Renamed) -> Iterator[Told]:
        """Which table is under which name afterwards."""
        origins: dict[str, str | None] = {}
        for old, new in found.pairs:
            before, after = self._name(old), self._name(new)
            origins[after] = origins.get(before, before)
            origins[before] = None
        structures = dict(self.structures)
        for name, origin in origins.items():
            database, _, table = name.partition(".")
            if origin == name or not self._config.captures(database, table):
                continue
            if origin is None:
                yield from self._gone(ddl.Gone(((database, table),)))
            else:
                yield from self._taken_over(name, structures.get(origin))

    def _taken_over(self, name: str, origin: Structure | None) -> Iterator[Told]:
        """Another table is under this name now: its rows are compared with what the topic has of
        the one before it, as after a tool has copied a table to alter it, or read."""
        database, _, table = name.partition(".")
        structure = origin.renamed(database, table) if origin is not None else None
        structure = structure or self._catalog.table(database, table)
        known = name in self.structures
        self._touch(name)
        if structure is not None:
            yield from self._changed(structure)
        under_way = self._snapshots.tables.get(name)
        if under_way is not None:
            under_way.void()
        elif known:
            self._snapshots.asked.append(Asked(name, reconcile=True))
        else:
            self._snapshots.take_up(name, wipe=False)

    def _anything(self) -> Iterator[Told]:
        """A statement that nobody understands: what are all tables now?"""
        found = self._catalog.tables(self._config)
        for name in list(self.structures):
            if name not in found:
                yield from self._gone(ddl.Gone((_parts(name),)))
        for name, listed in found.items():
            if name in self.structures:
                if listed.structure != self.structures[name]:
                    self._touch(name)
                    yield from self._changed(listed.structure)
            else:
                # It may be another table's new name, with rows.
                self.learn(listed.structure)
                self._snapshots.take_up(name, wipe=False)


def _text(said: Statement) -> str:
    try:
        return charsets.decode(said.charset or CHARSET, said.statement).decode()
    except (ValueError, LookupError):
        return said.statement.decode("utf-8", "replace")


def _parts(name: str) -> ddl.Name:
    database, _, table = name.partition(".")
    return database, table


def _key(structure: Structure) -> list[str]:
    return [structure.columns[i].name for i in structure.key]


def _likelier(parsed: Structure | None, read: Structure | None) -> Structure | None:
    """A structure from a statement and one from the catalog, which knows more, but of now: later
    statements may have changed it."""
    if parsed is None or read is None:
        return parsed or read
    same = [c.name for c in parsed.columns] == [c.name for c in read.columns]
    if same and _key(parsed) == _key(read):
        return read
    # How its key sorts is not in a statement.
    return replace(parsed, transactional=read.transactional)
