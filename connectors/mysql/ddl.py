"""What a statement of the binary log does to tables. Pure: no I/O.

Nothing depends on a statement being understood: of one that is not, the structures of the tables
that it names are read from the server again (`connectors.mysql.tables`). One that is understood
tells the structure at its place in the log, where the server's may be a later one already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from connectors.mysql.actions import Actions, actions, columns_of, options
from connectors.mysql.edits import Edit
from connectors.mysql.words import Name, Reader, Word, words

STATEMENT_CHARACTERS_MAX: Final = 1 << 20
"""Of longer statements no more is looked at."""


@dataclass(frozen=True)
class Altered:
    """A table is of another structure; ``edits`` is None where they were not understood. Then it
    is called ``target``, if that is not None. Rows of ``compared`` may have changed without any
    event: partitions were emptied, or came from elsewhere."""

    table: Name
    edits: tuple[Edit, ...] | None
    target: Name | None = None
    compared: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Created:
    """A table was made: ``edits`` make its structure from an empty one, None where that was not
    understood, or it is as that of ``like``. ``replaces``: one of its name was dropped for it;
    ``perhaps``: nothing was done where there was one."""

    table: Name
    edits: tuple[Edit, ...] | None
    like: Name | None = None
    replaces: bool = False
    perhaps: bool = False


@dataclass(frozen=True)
class Gone:
    """Tables were dropped (of a ``database``: all), or else made empty."""

    tables: tuple[Name, ...] = ()
    database: str = ""
    emptied: bool = False


@dataclass(frozen=True)
class Renamed:
    """Tables got other names, one after the other."""

    pairs: tuple[tuple[Name, Name], ...]


@dataclass(frozen=True)
class Temporary:
    """Temporary tables of the session were made, or ``dropped``."""

    tables: tuple[Name, ...]
    dropped: bool = False


@dataclass(frozen=True)
class Written:
    """Rows were changed by a statement that the log has instead of the rows. They are of tables
    that are among its ``names``, or that these lead to, as views and triggers do. ``hidden``: it
    calls what may change any table."""

    names: frozenset[str]
    database: str
    hidden: bool = False


@dataclass(frozen=True)
class Nothing:
    """No table's structure or rows."""


@dataclass(frozen=True)
class Unknown:
    """It may be anything that is about one of its ``names``."""

    names: frozenset[str]


Statement = Altered | Created | Gone | Renamed | Temporary | Written | Nothing | Unknown

_NOTHING: Final = frozenset(
    ("grant", "revoke", "flush", "analyze", "optimize", "repair", "check", "checksum", "reset",
     "savepoint", "release", "use", "kill", "install", "uninstall", "handler", "begin", "commit",
     "rollback", "start", "stop", "lock", "unlock", "xa", "set", "binlog", "purge", "change",
     "cache", "show", "prepare", "execute", "deallocate", "shutdown", "restart")
)  # fmt: skip
_WRITES: Final = frozenset(("insert", "replace", "update", "delete", "load", "with"))
_CALLS: Final = frozenset(("select", "do", "call", "values"))


def read(
    statement: str, database: str, sql_mode: int = 0, *, mariadb: bool = False
) -> Statement:  # fmt: skip
    """What a statement does that was run while ``database`` was the default one."""
    found = words(statement[:STATEMENT_CHARACTERS_MAX], sql_mode)
    if len(statement) > STATEMENT_CHARACTERS_MAX and found[0].text not in _WRITES:
        return Unknown(_names(found))
    return _Statement(found, database, sql_mode, mariadb=mariadb).read()


def concerned(found: Statement) -> tuple[frozenset[Name], frozenset[str], frozenset[str]]:
    """The tables whose structure a statement may change: those of these full names, those of these
    databases, and those of these names in any database."""
    none: frozenset[str] = frozenset()
    if isinstance(found, Altered):
        full: Iterable[Name] = (found.table, *filter(None, [found.target]), *found.compared)
    elif isinstance(found, Created):
        full = (found.table,)
    elif isinstance(found, Gone):
        full = () if found.emptied else found.tables
        return frozenset(full), frozenset(filter(None, [found.database])), none
    elif isinstance(found, Renamed):
        full = (name for pair in found.pairs for name in pair)
    else:
        return frozenset(), none, found.names if isinstance(found, Unknown) else none
    return frozenset(full), none, none


def names(statement: str) -> frozenset[str]:
    """Whatever may be a name in a statement, in small letters."""
    return _names(words(statement))


def _names(found: Iterable[Word]) -> frozenset[str]:
    return frozenset(word.text.lower() for word in found if word.kind in ("name", "word"))


class _Statement:
    def __init__(
        self, found: list[Word], database: str, sql_mode: int, *, mariadb: bool
    ) -> None:  # fmt: skip
        self._words = found
        self._reader = Reader(found)
        self._database = database
        self._sql_mode = sql_mode
        self._mariadb = mariadb

    def read(self) -> Statement:
        reader = self._reader
        if reader.takes("set", "statement"):
            # MariaDB's SET STATEMENT variable = value FOR statement.
            while reader and not reader.takes("for"):
                reader.next()
        while reader.takes("("):
            pass
        word = reader.next()
        if word is None or word.text in _NOTHING:
            return Nothing()
        if word.text in _WRITES:
            return self._written(word.text)
        if word.text in _CALLS:
            return Written(_names(reader.rest), self._database, hidden=True)
        readers = {
            "alter": self._altered, "create": self._created, "drop": self._dropped,
            "rename": self._renamed, "truncate": self._truncated,
        }  # fmt: skip
        found = readers[word.text]() if word.text in readers else None
        return found or Unknown(_names(self._words))

    def _written(self, verb: str) -> Statement:
        reader = self._reader
        if verb == "delete" and reader.takes("from"):
            table = reader.table(self._database)
            if table is not None and not reader:
                # So says a server that lost the rows of a table in memory.
                return Gone((table,), emptied=True)
        return Written(_names(self._words), self._database)

    def _altered(self) -> Statement | None:
        reader = self._reader
        while reader.takes_one("online", "offline", "ignore"):
            pass
        if not reader.takes("table"):
            return Nothing()
        reader.takes("if", "exists")
        table = reader.table(self._database)
        if table is None:
            return None
        if reader.takes("wait"):
            reader.next()
        reader.takes("nowait")
        found = actions(reader.rest, table, self._sql_mode, mariadb=self._mariadb)
        if "ignore" in [word.text for word in self._words[:4]]:
            # MariaDB drops rows that are twice in a new unique key.
            found = found._replace(compared=(*found.compared, table))
        return self._of_actions(table, found)

    def _of_actions(self, table: Name, found: Actions) -> Statement:
        edits = None if found.edits is None else tuple(found.edits)
        compared = tuple(dict.fromkeys(found.compared))
        if found.target is not None and edits == () and not compared:
            return Renamed(((table, found.target),))
        return Altered(table, edits, found.target, compared)

    def _created(self) -> Statement | None:
        reader = self._reader
        replaces = reader.takes("or", "replace")
        if reader.takes_one("database", "schema"):
            reader.takes("if", "not", "exists")
            name = reader.name()
            return Gone(database=name) if replaces and name else Nothing()
        temporary = reader.takes("temporary")
        if not reader.takes("table"):
            return Nothing()
        perhaps = reader.takes("if", "not", "exists")
        table = reader.table(self._database)
        if table is None:
            return None
        if temporary:
            return Temporary((table,))
        made = Created(table, None, None, replaces, perhaps)
        if reader.takes("like"):
            return replace(made, like=reader.table(self._database))
        inner = reader.inner()
        if inner is None:
            return made
        listed = Reader(inner)
        if listed.takes("like"):
            return replace(made, like=listed.table(self._database))
        edits = columns_of(inner, self._sql_mode, mariadb=self._mariadb)
        charset = options(reader.rest)
        if edits is None or charset is None:
            return made
        return replace(made, edits=(*charset, *edits))

    def _dropped(self) -> Statement | None:
        reader = self._reader
        if reader.takes_one("database", "schema"):
            reader.takes("if", "exists")
            name = reader.name()
            return Gone(database=name) if name else None
        if reader.takes("index"):
            return self._index_dropped()
        temporary = reader.takes("temporary")
        if not reader.takes_one("table", "tables", "sequence"):
            return Nothing()
        reader.takes("if", "exists")
        tables = []
        while True:
            table = reader.table(self._database)
            if table is None:
                return None
            tables.append(table)
            if not reader.takes(","):
                gone = tuple(tables)
                return Temporary(gone, dropped=True) if temporary else Gone(gone)

    def _index_dropped(self) -> Statement | None:
        reader = self._reader
        reader.takes("if", "exists")
        name = reader.name()
        if name is None or name.lower() != "primary" or not reader.takes("on"):
            return Nothing()
        table = reader.table(self._database)
        return None if table is None else Altered(table, (Edit("key"),))

    def _renamed(self) -> Statement | None:
        """``RENAME TABLE [IF EXISTS] a [WAIT n] TO b [, c TO d]``."""
        reader = self._reader
        if not reader.takes_one("table", "tables"):
            return Nothing()
        pairs = []
        while True:
            reader.takes("if", "exists")
            before = reader.table(self._database)
            if reader.takes("wait"):
                reader.next()
            reader.takes("nowait")
            after = reader.table(self._database) if reader.takes("to") else None
            if before is None or after is None:
                return None
            pairs.append((before, after))
            if not reader.takes(","):
                return Renamed(tuple(pairs))

    def _truncated(self) -> Statement | None:
        self._reader.takes("table")
        table = self._reader.table(self._database)
        return None if table is None else Gone((table,), emptied=True)
