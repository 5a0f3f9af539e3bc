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
from typing import Any, Final, Literal, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from connectors.mysql.declared import INHERITED, resized, wire
from connectors.mysql.structures import Structure
from connectors.mysql.wire import Type, WireColumn

DIALECT: Final = "mysql"
STATEMENT_BYTES_MAX: Final = 1 << 20
"""Longer statements are not looked into."""

# It warns of what it cannot read: that is nothing to tell an operator.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

Name = tuple[str, str]
"""Database and table."""


class Edit(NamedTuple):
    """One change of a structure: a column ``added``, ``removed``, ``modified`` (also to another
    name) or ``renamed``, or the ``key`` made of ``names``. ``place``: behind which column, the
    empty string for the first place, None for where it is or the end."""

    kind: Literal["added", "removed", "modified", "renamed", "key"]
    name: str = ""
    column: WireColumn | None = None
    place: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Altered:
    """A table is of another structure; ``edits`` is None where they were not understood."""

    table: Name
    edits: tuple[Edit, ...] | None


@dataclass(frozen=True)
class Created:
    """A table was made; ``edits`` make its structure from an empty one, None where that was not
    understood. ``replaces``: one of its name was dropped for it."""

    table: Name
    edits: tuple[Edit, ...] | None
    replaces: bool = False


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
    """Rows were changed by a statement that the log has instead of the rows."""

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
     "begin", "commit", "start", "lock", "unlock")
)  # fmt: skip
_NO_TABLE: Final = frozenset(
    ("user", "role", "view", "trigger", "procedure", "function", "event", "server", "tablespace",
     "logfile", "index", "fulltext", "spatial", "unique", "definer", "algorithm", "sql", "package",
     "sequence", "aggregate", "instance", "resource", "undo", "library", "masking")
)  # fmt: skip
_WORDS: Final = re.compile(r"[a-z_]+")
_RENAME: Final = re.compile(r"^.*?\brename\s+tables?\b", re.IGNORECASE | re.DOTALL)


def read(statement: str, database: str) -> Statement:
    """What a statement does that was run while ``database`` was the default one."""
    if len(statement) > STATEMENT_BYTES_MAX:
        return Unknown()
    try:
        tokens = sqlglot.tokenize(statement, read=DIALECT)
    except (SqlglotError, ValueError, IndexError):
        return Unknown()
    words = [token.text.lower() for token in tokens[:4]]
    if words[:2] == ["set", "statement"]:
        return _inner(statement, tokens, database)
    if not words or words[0] in _NOTHING:
        return Nothing()
    if words[0] == "rename":
        return _renamed(statement, database)
    if words[0] in ("create", "alter", "drop"):
        rest = [word for word in words[1:] if word not in ("or", "replace", "online", "offline")]
        if rest and rest[0] in _NO_TABLE:
            return Nothing()
        if "temporary" in words:
            return Nothing()
    try:
        found = sqlglot.parse_one(statement, read=DIALECT)
    except (SqlglotError, ValueError, RecursionError):
        return Unknown()
    return _statement(found, database)


def _inner(statement: str, tokens: list[Any], database: str) -> Statement:
    """MariaDB's ``SET STATEMENT variable = value FOR statement``."""
    for token in tokens[2:]:
        if token.text.lower() == "for":
            return read(statement[token.end + 1 :], database)
    return Unknown()


def _statement(found: exp.Expr, database: str) -> Statement:
    if isinstance(found, exp.Alter):
        return _altered(found, database)
    if isinstance(found, exp.Create):
        return _created(found, database)
    if isinstance(found, exp.Drop):
        kind = str(found.args.get("kind")).upper()
        tables = tuple(_names(found, database))
        if kind in ("DATABASE", "SCHEMA"):
            return Gone(database=tables[0][1]) if tables else Unknown()
        return Gone(tables) if kind == "TABLE" else Nothing()
    if isinstance(found, exp.TruncateTable):
        return Gone(tuple(_names(found, database)), emptied=True)
    if isinstance(found, exp.Delete) and not found.args.get("where"):
        # So says a server that lost the rows of a table in memory.
        return Gone(tuple(_names(found, database)), emptied=True)
    if isinstance(found, exp.Insert | exp.Update | exp.Delete):
        return Written(tuple(_names(found, database)))
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


def _altered(found: exp.Alter, database: str) -> Statement:
    if str(found.args.get("kind")).upper() != "TABLE":
        return Nothing()
    table = (found.this.db or database, found.this.name)
    edits: list[Edit] = []
    target: Name | None = None
    known = True
    for action in found.args.get("actions") or ():
        if isinstance(action, exp.AlterRename):
            target = (action.this.db or table[0], action.this.name)
            continue
        made = _edits(action)
        known = known and made is not None
        edits += made or ()
    if target is not None:
        # A new name with other changes: what they are is read from the server.
        return Renamed(((table, target),)) if not edits and known else Unknown()
    return Altered(table, tuple(edits) if known else None)


def _edits(action: exp.Expr) -> list[Edit] | None:
    """The edits of one action of ALTER TABLE; None where it may be more than is understood."""
    if isinstance(action, exp.ColumnDef):
        return _defined("added", action, action.name)
    if isinstance(action, exp.ModifyColumn):
        definition = action.this
        before = action.args.get("rename_from")
        return _defined("modified", definition, before.name if before else definition.name)
    if isinstance(action, exp.RenameColumn):
        return [Edit("renamed", action.this.name, names=(action.args["to"].name,))]
    if isinstance(action, exp.Drop):
        if str(action.args.get("kind")).upper() != "COLUMN":
            return []
        names = [each.name for each in action.args.get("tables") or () if each.name]
        return [Edit("removed", name) for name in names] or None
    if isinstance(action, exp.DropPrimaryKey):
        return [Edit("key")]
    if isinstance(action, exp.AddConstraint):
        return _keys(action.expressions)
    return [] if isinstance(action, exp.AlterColumn) else None


def _keys(constraints: list[exp.Expr]) -> list[Edit]:
    found: list[Edit] = []
    for constraint in constraints:
        found += [
            Edit("key", names=tuple(part.name for part in key.expressions))
            for key in constraint.find_all(exp.PrimaryKey)
        ]
    return found


def _defined(
    kind: Literal["added", "modified"], definition: exp.ColumnDef, name: str
) -> list[Edit] | None:
    column = _column(definition)
    if column is None:
        return None
    place = None
    position = definition.args.get("position")
    if position is not None:
        place = position.this.name if position.this else ""
    edits = [Edit(kind, name, column, place)]
    if definition.find(exp.PrimaryKeyColumnConstraint):
        edits.append(Edit("key", names=(column.name,)))
    return edits


def _column(definition: exp.ColumnDef) -> WireColumn | None:
    kind = definition.args.get("kind")
    if kind is None:
        return None
    charset = definition.find(exp.CharacterSetColumnConstraint)
    collation = definition.find(exp.CollateColumnConstraint)
    text = "tinyint(1)" if kind.this == exp.DType.BOOLEAN else kind.sql(DIALECT).lower()
    if isinstance(kind, exp.DataType) and kind.expressions:
        # Labels keep their case.
        text = text.partition("(")[0] + "(" + kind.sql(DIALECT).partition("(")[2]
    charsets = INHERITED
    if charset is not None:
        charsets = charset.this.name.lower()
    elif collation is not None:
        charsets = collation.this.name.lower().partition("_")[0]
    nullable = not definition.find(exp.NotNullColumnConstraint, exp.PrimaryKeyColumnConstraint)
    found = wire(definition.name, text, charsets, nullable=nullable)
    if found.type == Type.NULL:
        return None
    return found if found.charset != INHERITED or _is_text(text) else found._replace(charset="")


def _is_text(text: str) -> bool:
    kind = _WORDS.match(text)
    return bool(kind) and kind[0] in (  # type: ignore[index]  # it is there
        "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"
    )  # fmt: skip


def _created(found: exp.Create, database: str) -> Statement:
    kind = str(found.args.get("kind")).upper()
    if kind in ("DATABASE", "SCHEMA"):
        return Nothing()
    if kind != "TABLE":
        return Nothing()
    target = found.this
    table = target.this if isinstance(target, exp.Schema) else target
    name = (table.db or database, table.name)
    replaces = bool(found.args.get("replace"))
    if not isinstance(target, exp.Schema) or found.expression is not None:
        return Created(name, None, replaces)
    edits: list[Edit] = []
    for part in target.expressions:
        if isinstance(part, exp.ColumnDef):
            made = _defined("added", part, part.name)
            if made is None:
                return Created(name, None, replaces)
            edits += made
        else:
            edits += _keys([part])
    return Created(name, tuple(edits), replaces)


def applied(structure: Structure, edits: tuple[Edit, ...]) -> Structure | None:
    """A structure after the edits; None where they do not fit."""
    columns = list(structure.columns)
    key = [structure.columns[i].name for i in structure.key]
    for edit in edits:
        names = [column.name.lower() for column in columns]
        name = edit.name.lower()
        if edit.kind == "key":
            key = list(edit.names)
            continue
        if edit.kind == "added":
            if name in names or edit.column is None:
                return None
            at, column = len(columns), edit.column
        elif name in names:
            at = names.index(name)
            before = columns.pop(at)
            if edit.kind == "removed":
                key = [part for part in key if part.lower() != name]
                continue
            column = edit.column or before._replace(name=edit.names[0])
            key = [column.name if part.lower() == name else part for part in key]
        else:
            return None
        if edit.place is not None:
            behind = [column.name.lower() for column in columns]
            if edit.place and edit.place.lower() not in behind:
                return None
            at = behind.index(edit.place.lower()) + 1 if edit.place else 0
        columns.insert(at, resized(column, structure.charset))
    places = {column.name.lower(): i for i, column in enumerate(columns)}
    if any(part.lower() not in places for part in key):
        return None
    indexes = tuple(places[part.lower()] for part in key)
    same = [structure.columns[i].name for i in structure.key] == key
    ordering = structure.ordering if same else ("",) * len(indexes)
    columns = [c._replace(nullable=c.nullable and i not in indexes) for i, c in enumerate(columns)]
    return replace(structure, columns=tuple(columns), key=indexes, ordering=ordering)
