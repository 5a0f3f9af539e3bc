"""What statements of the binary log do to the captured tables, in the order in which the stream
comes to them. On the source's thread.

What a statement makes of a structure is told by the statement and by the catalog. The catalog knows
more, but of now: later statements may have changed the table. So it holds where it agrees with the
statement, or where the log ahead has no other statement about the table
(`connectors.mysql.ahead`); else the statement does, and where that was not understood the structure
is not *sure*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from connectors.mysql import ddl
from connectors.mysql.ahead import Ahead
from connectors.mysql.catalog import Catalog
from connectors.mysql.config import MysqlConfig
from connectors.mysql.edits import applied
from connectors.mysql.position import Snapshots
from connectors.mysql.snapshot import Asked
from connectors.mysql.statements import Statement
from connectors.mysql.structures import Structure, agree, bare
from connectors.mysql.tables import Tables
from connectors.mysql.temporary import Hidden, without
from connectors.mysql.words import Name
from ensign_core.change import Op, Schema

CHARSET: Final = "utf8mb4"
"""That of a new table of which neither its statement nor the catalog tells it."""


class Told(NamedTuple):
    """An event that a statement leads to: its table has another structure, or is empty."""

    op: Op
    schema: Schema


class Changes:
    """One per source."""

    def __init__(
        self,
        tables: Tables,
        catalog: Catalog,
        ahead: Ahead,
        config: MysqlConfig,
        snapshots: Snapshots,
        *,
        any_case: bool,
    ) -> None:
        self._tables = tables
        self._catalog = catalog
        self._ahead = ahead
        self._config = config
        self._snapshots = snapshots
        self._any_case = any_case

    def statement(self, said: Statement) -> list[Told]:
        """Take in what a statement does, now that the stream has come to it. Where that cannot be
        told yet it raises `connectors.mysql.ahead.NotYetError`, and has done nothing."""
        hidden = self._tables.hidden.get(said.thread_id, frozenset())
        found, after = without(self._ahead.understood(said), hidden, self._place)
        told = self._understood(found, hidden)
        self._tables.hide(said.thread_id, after)
        return told

    def _understood(self, found: ddl.Statement, hidden: Hidden) -> list[Told]:
        """Of a session with these temporary tables."""
        if isinstance(found, ddl.Altered):
            told = list(self._altered(found))
        elif isinstance(found, ddl.Created):
            told = list(self._created(found))
        elif isinstance(found, ddl.Gone):
            told = list(self._gone(found))
        elif isinstance(found, ddl.Renamed):
            told = list(self._renamed(found.pairs))
        elif isinstance(found, ddl.Written):
            self._written(found, hidden)
            return []
        elif isinstance(found, ddl.Unknown):
            told = list(self._anything(found))
        else:
            return []
        for asked in self._snapshots.asked:
            if asked.name in self._snapshots.stopped:
                # Its structure may be told from here on.
                self._tables.resume(asked.name)
        return told

    def _place(self, table: Name) -> Name:
        """A table as it is known here; on some servers the case of letters does not count."""
        return (table[0].lower(), table[1].lower()) if self._any_case else table

    def _settled(self, place: Name, parsed: Structure | None) -> Structure | None:
        """The structure of a table behind a statement, which made ``parsed`` of it or was not
        understood. None where there is no such table, as far as anybody can tell."""
        read = self._ahead.read(*place).structure
        if parsed is not None and parsed.sure and read is not None and agree(parsed, read):
            return read
        if read is not None and self._ahead.untouched(*place):
            return read
        if parsed is None or read is None:
            return parsed or (read and replace(read, sure=False))
        return _filled(parsed, read)

    def _altered(self, found: ddl.Altered) -> Iterator[Told]:
        place = self._place(found.table)
        if self._tables.another(place):
            return
        target = place if found.target is None else self._place(found.target)
        name = ".".join(place)
        known = self._tables.structures.get(name) or self._tables.aside.get(name)
        settled = None
        if known is not None and found.edits is not None:
            settled = applied(known, found.edits)
        if known is not None and self._config.captures(*target):
            settled = _moved(self._settled(target, _moved(settled, target)), place)
        if name in self._tables.aside:
            self._tables.put_aside(name, settled)
        elif name in self._tables.structures:
            self._tables.touch(name)
            assert known is not None
            yield from self._changed(settled or replace(known, sure=False))
        for compared in (".".join(self._place(each)) for each in found.compared):
            if compared in self._tables.structures:
                self._tables.touch(compared)
                self.compare(compared)
        if target != place:
            yield from self._renamed(((place, target),))

    def _changed(self, structure: Structure) -> Iterator[Told]:
        """A table has another structure, perhaps."""
        name = structure.name
        before = self._tables.structures.get(name)
        if not self._tables.learn(structure):
            return
        table = self._snapshots.tables.get(name)
        if table is not None and before is not None and _key(before) != _key(structure):
            table.void()
        if table is None or table.cursor is not None:
            yield Told(Op.SCHEMA, self._tables.schema(name))

    def _created(self, found: ddl.Created) -> Iterator[Told]:
        place = self._place(found.table)
        if self._tables.another(place):
            return
        name = ".".join(place)
        structure = self._made(place, found)
        if not self._config.captures(*place):
            self._tables.put_aside(name, structure)
            return
        if found.replaces:
            yield from self._gone(ddl.Gone((place,)))
        elif name in self._tables.structures:
            table = self._snapshots.tables.get(name)
            if table is not None and table.gone:
                yield from self._gone(ddl.Gone((place,)))
            elif found.perhaps or table is None or table.cursor is not None or table.wipe:
                # It was made only if it had not existed, or the stream begins before it was made.
                return
            else:
                # It was found when the source started, and all its rows are still to come.
                self._tables.forget(name)
        if structure is not None:
            self._tables.learn(structure)
            yield Told(Op.SCHEMA, self._tables.schema(name))

    def _made(self, place: Name, found: ddl.Created) -> Structure | None:
        """The structure of a new table."""
        captured = self._config.captures(*place)
        parsed = None
        if found.like is not None:
            parsed = _moved(self._known(self._place(found.like)), place)
        elif found.edits is not None and (captured or self._beside(place[0])):
            read = self._ahead.read(*place).structure
            charset = read.charset if read is not None else CHARSET
            parsed = applied(Structure(*place, (), charset=charset), found.edits)
        return self._settled(place, parsed) if captured else parsed

    def _known(self, place: Name) -> Structure | None:
        if self._tables.another(place):
            return None
        name = ".".join(place)
        return self._tables.structures.get(name) or self._tables.aside.get(name)

    def _beside(self, database: str) -> bool:
        """Whether tables of a database are captured."""
        return any(each.database == database for each in self._tables.structures.values())

    def _gone(self, found: ddl.Gone) -> Iterator[Told]:
        tables = self._tables
        places = map(self._place, found.tables)
        names = [".".join(place) for place in places if not self._tables.another(place)]
        if found.database:
            database = self._place((found.database, ""))[0]
            known = (*tables.structures.items(), *tables.aside.items())
            names += [name for name, each in known if each.database == database]
        for name in names:
            if name in tables.aside and not found.emptied:
                tables.put_aside(name, None)
            if name not in tables.structures:
                continue
            schema = tables.schema(name)
            table = self._snapshots.tables.get(name)
            if table is None or table.cursor is not None or table.wipe:
                yield Told(Op.TRUNCATE, schema)
            if found.emptied:
                tables.touch(name)
            else:
                tables.forget(name)

    def _renamed(self, pairs: tuple[tuple[Name, Name], ...]) -> Iterator[Told]:
        """Which table is under which name afterwards."""
        origins: dict[Name, Name | None] = {}
        for old, new in pairs:
            before, after = self._place(old), self._place(new)
            origins[after] = origins.get(before, before)
            origins[before] = None
        found: dict[Name, Structure | None] = {}
        for place, origin in origins.items():
            if origin is not None and origin != place:
                moved = _moved(self._known(origin), place)
                captured = self._config.captures(*place)
                found[place] = self._settled(place, moved) if captured else moved
        for place, origin in origins.items():
            if origin == place or self._tables.another(place):
                continue
            if not self._config.captures(*place):
                self._tables.put_aside(".".join(place), found.get(place))
            elif origin is None:
                yield from self._gone(ddl.Gone((place,)))
            else:
                yield from self._taken_over(".".join(place), found[place])

    def _taken_over(self, name: str, structure: Structure | None) -> Iterator[Told]:
        """Another table is under this name now: its rows are compared with what the topic has of
        the one before it, as after a tool has copied a table to alter it, or read."""
        known = name in self._tables.structures
        self._tables.touch(name)
        if structure is not None:
            yield from self._changed(structure)
        if known:
            self.compare(name)
        elif structure is not None and self._config.snapshot != "never":
            self._snapshots.take_up(name, wipe=False)

    def compare(self, name: str) -> None:
        """Rows of a table came and went without events: see what its topic lacks."""
        under_way = self._snapshots.tables.get(name)
        if under_way is not None:
            under_way.void()
        elif self._config.snapshot != "never":
            asked = self._snapshots.asked
            # One that is under way may be past the rows that changed.
            asked[:] = [a for a in asked if (a.name, a.where, a.reconcile) != (name, None, True)]
            asked.append(Asked(name, reconcile=True))

    def _written(self, found: ddl.Written, hidden: Hidden) -> None:
        """Rows of some tables changed, and the log does not have them."""
        names, databases = self._led_to(found.names)
        if found.hidden:
            databases.add(found.database)
        for name, each in list(self._tables.structures.items()):
            named = each.table.lower() in found.names and each.place not in hidden
            if named or each.table.lower() in names or each.database in databases:
                self._tables.stop(name, "statement_logged")

    def _led_to(self, named: frozenset[str]) -> tuple[set[str], set[str]]:
        """The names that views, triggers and routines among some lead to, and the databases of
        those that do not say what is behind them."""
        names, databases = set[str](), set[str]()
        bodies = self._catalog.bodies()
        while True:
            found = [body for body in bodies if body.name.lower() in named | names]
            if not found:
                return names, databases
            for body in found:
                bodies.remove(body)
                if body.definition:
                    names |= ddl.names(body.definition)
                else:
                    databases.add(body.database)

    def _anything(self, found: ddl.Unknown) -> Iterator[Told]:
        """A statement that nobody understands: what are the tables now that it names?"""
        known = self._tables.structures
        named = [each.place for each in known.values() if each.table.lower() in found.names]
        settled = {place: self._settled(place, None) for place in named}
        for place, structure in settled.items():
            self._tables.touch(".".join(place))
            if structure is None:
                yield from self._gone(ddl.Gone((place,)))
            else:
                yield from self._changed(structure)
        for name, new in self._catalog.tables(self._config).items():
            if name not in known and name not in self._snapshots.stopped:
                # It may have rows already.
                self._tables.learn(replace(new.structure, sure=False))
                if self._config.snapshot != "never":
                    self._snapshots.take_up(name, wipe=False)


def _moved(structure: Structure | None, place: Name) -> Structure | None:
    return None if structure is None else structure.renamed(*place)


def _key(structure: Structure) -> list[str]:
    return [structure.columns[i].name for i in structure.key]


def _filled(parsed: Structure, read: Structure) -> Structure:
    """What a statement says, with what only the catalog tells of columns that are there still."""
    by_name = {column.name: column for column in read.columns}
    columns = tuple(
        by_name[column.name]
        if column.name in by_name and bare(by_name[column.name]) == bare(column)
        else column
        for column in parsed.columns
    )
    return replace(parsed, columns=columns, transactional=read.transactional)
