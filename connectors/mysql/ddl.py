"""What a statement of the binary log does to tables, as far as sqlglot can read it.

Nothing depends on a statement being understood: of one that is not, the structures of all captured
tables are read from the server again (`connectors.mysql.tables`). One that is understood also tells
the structure at its place in the log where the server's is a later one already. Pure: no I/O.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import SqlglotError

from connectors.mysql.declared import INHERITED
from connectors.mysql.edits import (
    DIALECT,
    MISREAD,
    Edit,
    applied,
    defined,
    keys,
    of_action,
    table_charset,
)  # fmt: skip

__all__ = [
    "Altered", "Created", "Edit", "Gone", "Nothing", "Renamed", "Statement", "Unknown", "Written",
    "applied", "read",
]  # fmt: skip

STATEMENT_BYTES_MAX: Final = 1 << 20
"""Longer statements are not looked into, but for what they begin with."""

HEAD_BYTES: Final = 1 << 12
"""Where a long statement names the tables that it writes."""

# It warns of what it cannot read: that is nothing to tell an operator.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

Name = tuple[str, str]
"""Database and table."""


@dataclass(frozen=True)
class Altered:
    """A table is of another structure; ``edits`` is None where they were not understood."""

    table: Name
    edits: tuple[Edit, ...] | None


@dataclass(frozen=True)
class Created:
    """A table was made; ``edits`` make its structure from an empty one of the ``charset``, None
    where that was not understood. ``replaces``: one of its name was dropped for it."""

    table: Name
    edits: tuple[Edit, ...] | None
    replaces: bool = False
    charset: str = INHERITED


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
class Written:
    """Rows were changed by a statement that the log has instead of the rows: those of these tables,
    as far as there are tables of these names."""

    tables: tuple[Name, ...]


@dataclass(frozen=True)
class Nothing:
    """No table's structure or rows."""


@dataclass(frozen=True)
class Unknown:
    """It may be anything."""


Statement = Altered | Created | Gone | Renamed | Written | Nothing | Unknown

_NOTHING: Final = frozenset(
    ("grant", "revoke", "flush", "analyze", "optimize", "repair", "check", "checksum", "reset",
     "savepoint", "release", "use", "kill", "install", "uninstall", "call", "do", "handler",
     "begin", "commit", "start", "lock", "unlock", "set")
)  # fmt: skip
_NO_TABLE: Final = frozenset(
    ("user", "role", "view", "trigger", "procedure", "function", "event", "server", "tablespace",
     "logfile", "index", "fulltext", "spatial", "unique", "definer", "algorithm", "sql", "package",
     "sequence", "aggregate", "instance", "resource", "undo", "library", "masking")
)  # fmt: skip
_WRITES: Final = frozenset(("insert", "replace", "update", "delete", "load"))
_RENAME: Final = re.compile(r"^.*?\brename\s+tables?\b", re.IGNORECASE | re.DOTALL)
_WRITE: Final = re.compile(
    rf"(?:\s|/\*(?!M?!).*?\*/|(?:#|--\s).*?\n)*(?:{'|'.join(sorted(_WRITES))})\b",
    re.IGNORECASE | re.DOTALL,
)
_NAME: Final = re.compile(r"`(?:[^`]|``)+`|[\w$]+")
_RUN: Final = re.compile(r"/\*M?!")
"""The begin of a comment that servers run."""


def read(statement: str, database: str, *, mariadb: bool = False) -> Statement:
    """What a statement does that was run while ``database`` was the default one."""
    if len(statement) > STATEMENT_BYTES_MAX:
        head = statement[:HEAD_BYTES]
        return _written_somewhere(head, database) if _WRITE.match(head) else Unknown()
    try:
        tokens = sqlglot.tokenize(statement, read=DIALECT)
    except (SqlglotError, ValueError, IndexError):
        return Unknown()
    words = [token.text.lower() for token in tokens[:4]]
    if words[:2] == ["set", "statement"]:
        return _inner(statement, tokens, database, mariadb=mariadb)
    hidden = _RUN.search(statement) is not None
    if not words or (hidden and words[0] not in ("create", *_WRITES)):
        return Unknown() if hidden else Nothing()
    if words[0] in _NOTHING:
        return Nothing()
    if words[0] == "rename":
        return _renamed(statement, database)
    if words[0] in _WRITES:
        return _written(statement, database)
    if words[0] in ("create", "alter", "drop"):
        rest = [word for word in words[1:] if word not in ("or", "replace", "online", "offline")]
        if words[:2] == ["drop", "index"] and "primary" in words:
            return Unknown()
        if rest and (rest[0] in _NO_TABLE or rest[0] == "temporary"):
            return Nothing()
    try:
        found = sqlglot.parse_one(statement, read=DIALECT)
        made = _statement(found, database, mariadb=mariadb)
    except (SqlglotError, ValueError, RecursionError):
        # Also for lengths that are no numbers.
        return Unknown()
    if isinstance(made, Altered | Created) and (hidden or _misread(tokens)):
        return replace(made, edits=None)
    return made


def _misread(tokens: list[Any]) -> bool:
    return any(
        token.text.lower() in MISREAD
        for token in tokens
        if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER)
    )


def _inner(statement: str, tokens: list[Any], database: str, *, mariadb: bool) -> Statement:
    """MariaDB's ``SET STATEMENT variable = value FOR statement``."""
    for token in tokens[2:]:
        if token.text.lower() == "for" and token.token_type != TokenType.STRING:
            return read(statement[token.end + 1 :], database, mariadb=mariadb)
    return Unknown()


def _written(statement: str, database: str) -> Statement:
    try:
        found = sqlglot.parse_one(statement, read=DIALECT)
    except (SqlglotError, ValueError, RecursionError):
        found = exp.Command()
    if isinstance(found, exp.Delete) and not found.args.get("where"):
        # So says a server that lost the rows of a table in memory.
        return Gone(tuple(_names(found, database)), emptied=True)
    if isinstance(found, exp.Insert | exp.Update | exp.Delete):
        written = found.this if isinstance(found, exp.Insert) else found
        return Written(tuple(_names(written, database)))
    return _written_somewhere(statement, database)


def _written_somewhere(statement: str, database: str) -> Statement:
    """Whatever names there are in it may be those of tables."""
    names = [name.strip("`").replace("``", "`") for name in _NAME.findall(statement)]
    places = [(database, name) for name in names] + list(pairwise(names))
    return Written(tuple(dict.fromkeys(places)))


def _statement(found: exp.Expr, database: str, *, mariadb: bool) -> Statement:
    if isinstance(found, exp.Alter):
        return _altered(found, database, mariadb=mariadb)
    if isinstance(found, exp.Create):
        return _created(found, database, mariadb=mariadb)
    if isinstance(found, exp.Drop):
        kind = str(found.args.get("kind")).upper()
        tables = tuple(_names(found, ""))
        if kind in ("DATABASE", "SCHEMA"):
            # One word, which is taken for either.
            return Gone(database=tables[0][1] or tables[0][0]) if tables else Unknown()
        return Gone(tuple((d or database, t) for d, t in tables)) if kind == "TABLE" else Nothing()
    if isinstance(found, exp.TruncateTable):
        return Gone(tuple(_names(found, database)), emptied=True)
    return Unknown()


def _names(found: exp.Expr, database: str) -> Iterator[Name]:
    for table in found.find_all(exp.Table):
        yield (table.db or database, table.name)


def _renamed(statement: str, database: str) -> Statement:
    """``RENAME TABLE [IF EXISTS] a TO b [, c TO d]``, with the options for waiting."""
    # The tokenizer takes all behind a word that it does not know for one string.
    rest = _RENAME.sub("", statement, count=1)
    pairs: list[tuple[Name, Name]] = []
    before: list[str] = []
    after: list[str] | None = None
    for word in [*(token.text for token in sqlglot.tokenize(rest, read=DIALECT)), ","]:
        lower = word.lower()
        if word == ",":
            if not before or not after:
                return Unknown()
            pairs.append((_name(before, database), _name(after, database)))
            before, after = [], None
        elif lower == "to" and after is None:
            after = []
        elif after is not None:
            after.append(word)
        elif lower not in ("if", "exists"):
            before.append(word)
    return Renamed(tuple(pairs))


def _name(part: list[str], database: str) -> Name:
    """Of the words of ``db.table``; what follows, such as ``WAIT 5``, is no part of it."""
    return (part[0], part[2]) if len(part) >= 3 and part[1] == "." else (database, part[0])


def _altered(found: exp.Alter, database: str, *, mariadb: bool) -> Statement:
    if str(found.args.get("kind")).upper() != "TABLE":
        return Nothing()
    table = (found.this.db or database, found.this.name)
    edits: list[Edit] = []
    target: Name | None = None
    # Columns that are added later may be of another charset then.
    known = table_charset(found.args.get("options"), mariadb=mariadb) == INHERITED
    for action in found.args.get("actions") or ():
        if isinstance(action, exp.AlterRename):
            target = (action.this.db or table[0], action.this.name)
            continue
        made = of_action(action, mariadb=mariadb)
        known = known and made is not None
        edits += made or ()
    if target is not None:
        # A new name with other changes: what they are is read from the server.
        return Renamed(((table, target),)) if not edits and known else Unknown()
    return Altered(table, tuple(edits) if known else None)


def _created(found: exp.Create, database: str, *, mariadb: bool) -> Statement:
    if str(found.args.get("kind")).upper() != "TABLE":
        return Nothing()
    target = found.this
    table = target.this if isinstance(target, exp.Schema) else target
    name = (table.db or database, table.name)
    made = Created(name, None, bool(found.args.get("replace")))
    options = found.args.get("properties")
    charset = table_charset(options.expressions if options else (), mariadb=mariadb)
    if not isinstance(target, exp.Schema) or found.expression is not None or charset is None:
        return made
    edits: list[Edit] = []
    for part in target.expressions:
        if isinstance(part, exp.ColumnDef):
            more = defined("added", part, part.name, mariadb=mariadb)
        else:
            more = keys([part])
        if more is None:
            return made
        edits += more
    return replace(made, edits=tuple(edits), charset=charset)
