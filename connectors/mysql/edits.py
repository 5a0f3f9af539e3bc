"""What a statement changes of a table's structure, column by column. Pure: no I/O.

What sqlglot reads is not always what the server read: it takes ``INT8`` for a byte, ``REAL`` for a
float, and comments that servers run for comments. Nothing is claimed where that may be: the
structure is then the catalog's (`connectors.mysql.tables`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from sqlglot import exp

from connectors.mysql import charsets
from connectors.mysql.declared import INHERITED, resized, wire
from connectors.mysql.structures import Structure
from connectors.mysql.wire import Type, WireColumn

DIALECT: Final = "mysql"

MISREAD: Final = frozenset(
    ("int1", "int2", "int3", "int4", "int8", "float4", "float8", "long", "middleint", "real",
     "serial", "national", "nchar", "nvarchar", "byte")
)  # fmt: skip
"""Words of types that sqlglot takes for others."""

_TEXTS: Final = frozenset(
    ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
)
_SIZED: Final = frozenset(("text", "blob"))
"""Types that a length makes a smaller or larger one."""

_FLOAT_DIGITS_MAX: Final = 24
"""FLOAT of more is a DOUBLE."""

_OWN_KEY: Final = "my_row_id"
"""The column that MySQL adds to a table without a key (sql_generate_invisible_primary_key), which
stays before the first one."""

_WORD: Final = re.compile(r"[a-z_]+")
_PRIMARY: Final = "primary"


class Edit(NamedTuple):
    """One change of a structure: a column ``added``, ``removed``, ``modified`` (also to another
    name) or ``renamed``, or the ``key`` made of ``names``. ``place``: behind which column, the
    empty string for the first place, None for where it is or the end."""

    kind: Literal["added", "removed", "modified", "renamed", "key"]
    name: str = ""
    column: WireColumn | None = None
    place: str | None = None
    names: tuple[str, ...] = ()

    @property
    def touched(self) -> set[str]:
        """The names of columns that it is about, in lower case."""
        names = [self.name, self.column.name if self.column else ""]
        if self.kind == "renamed":
            names += self.names
        return {name.lower() for name in names if name}


def of_action(action: exp.Expr, *, mariadb: bool) -> list[Edit] | None:
    """The edits of one action of ALTER TABLE; None where it may be more than is understood."""
    if isinstance(action, exp.ColumnDef):
        return defined("added", action, action.name, mariadb=mariadb)
    if isinstance(action, exp.ModifyColumn):
        definition = action.this
        before = action.args.get("rename_from")
        name = before.name if before else definition.name
        return defined("modified", definition, name, mariadb=mariadb)
    if isinstance(action, exp.RenameColumn):
        return [Edit("renamed", action.this.name, names=(action.args["to"].name,))]
    if isinstance(action, exp.Drop):
        names = [each.name for each in action.args.get("tables") or () if each.name]
        if str(action.args.get("kind")).upper() != "COLUMN":
            return None if _PRIMARY in (name.lower() for name in names) else []
        return [Edit("removed", name) for name in names] or None
    if isinstance(action, exp.DropPrimaryKey):
        return [Edit("key")]
    if isinstance(action, exp.AddConstraint):
        return keys(action.expressions)
    return [] if isinstance(action, exp.AlterColumn) else None


def keys(constraints: Sequence[exp.Expr]) -> list[Edit] | None:
    """The edits of constraints and indexes: primary keys."""
    found: list[Edit] = []
    for constraint in constraints:
        if isinstance(constraint, exp.LikeProperty):
            return None
        found += [
            Edit("key", names=tuple(part.name for part in key.expressions))
            for key in constraint.find_all(exp.PrimaryKey)
        ]
    return found


def defined(
    kind: Literal["added", "modified"], definition: exp.ColumnDef, name: str, *, mariadb: bool
) -> list[Edit] | None:
    """The edits of a column's definition; None where its type is not understood."""
    column = _column(definition, mariadb=mariadb)
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


def _column(definition: exp.ColumnDef, *, mariadb: bool) -> WireColumn | None:
    kind = definition.args.get("kind")
    if not isinstance(kind, exp.DataType):
        return None
    if mariadb and definition.find(exp.CheckColumnConstraint):
        # It may be what makes a text JSON.
        return None
    text = _type(kind, definition)
    charset = _charset(definition, mariadb=mariadb)
    if text is None or charset is None:
        return None
    nullable = _nullable(text, definition)
    if nullable is None:
        return None
    document = mariadb and text == "json"
    if document:
        text, charset = "longtext", "utf8mb4"
    elif not _is_text(text):
        charset = ""
    found = wire(
        definition.name, text, charset, nullable=nullable, document=document, mariadb=mariadb
    )
    if found.type == Type.NULL:
        return None
    computed = definition.find(
        exp.ComputedColumnConstraint, exp.GeneratedAsIdentityColumnConstraint
    )
    return found._replace(generated=mariadb and computed is not None)


def _type(kind: exp.DataType, definition: exp.ColumnDef) -> str | None:
    """A type as the server's catalog writes it; None where that is not sure."""
    if kind.this == exp.DType.BOOLEAN:
        return "tinyint(1)"
    text = kind.sql(DIALECT)
    word, _, inner = text.partition("(")
    # Labels keep their case.
    text = word.lower() + (f"({inner}" if inner else "")
    name = word.strip().lower()
    if inner and name in _SIZED:
        return None
    if name == "float" and "," not in inner and int(inner.rstrip(")") or 0) > _FLOAT_DIGITS_MAX:
        return "double"
    zerofill = definition.find(exp.ZeroFillColumnConstraint) is not None
    return f"{text} unsigned zerofill" if zerofill and "unsigned" not in text else text


def _nullable(text: str, definition: exp.ColumnDef) -> bool | None:
    """None where it depends on the server's settings."""
    if definition.find(exp.PrimaryKeyColumnConstraint):
        return False
    said = definition.find(exp.NotNullColumnConstraint)
    if said is not None:
        return bool(said.args.get("allow_null"))
    return None if text.startswith("timestamp") else True


def _charset(definition: exp.ColumnDef, *, mariadb: bool) -> str | None:
    charset = definition.find(exp.CharacterSetColumnConstraint)
    collation = definition.find(exp.CollateColumnConstraint)
    if charset is not None:
        return named(charset.this.name, mariadb=mariadb)
    if collation is not None:
        return named(collation.this.name.partition("_")[0], mariadb=mariadb)
    return INHERITED


def named(charset: str, *, mariadb: bool) -> str | None:
    """A charset by its name in a statement; None where that is not sure."""
    charset = charset.lower()
    if charset == "utf8":
        # MariaDB has a setting for what this is.
        return None if mariadb else "utf8mb3"
    try:
        charsets.decode(charset, b"")
    except LookupError:
        return None
    return charset


def _is_text(text: str) -> bool:
    kind = _WORD.match(text)
    return kind is not None and kind[0] in _TEXTS


def table_charset(options: Any, *, mariadb: bool) -> str | None:
    """The charset that the options of a table say, `INHERITED` where they do not."""
    said: str | None = INHERITED
    for option in options or ():
        if isinstance(option, exp.CharacterSetProperty):
            return named(option.this.name, mariadb=mariadb)
        if isinstance(option, exp.CollateProperty):
            said = named(option.this.name.partition("_")[0], mariadb=mariadb)
    return said


def applied(structure: Structure, edits: tuple[Edit, ...]) -> Structure | None:
    """A structure after the edits; None where they do not fit, or in an order that depends."""
    if structure.versioned or not _independent(edits):
        return None
    columns = list(structure.columns)
    key = [structure.columns[i].name for i in structure.key]
    if any(edit.kind == "key" for edit in edits):
        # The old key goes before the new one comes, whatever the order.
        key = [name for edit in edits if edit.kind == "key" for name in edit.names]
    for edit in edits:
        if edit.kind != "key" and not _apply(columns, key, edit, structure.charset):
            return None
    places = {column.name.lower(): i for i, column in enumerate(columns)}
    if any(part.lower() not in places for part in key):
        return None
    indexes = tuple(places[part.lower()] for part in key)
    same = [structure.columns[i].name for i in structure.key] == key
    ordering = structure.ordering if same else ("",) * len(indexes)
    columns = [c._replace(nullable=c.nullable and i not in indexes) for i, c in enumerate(columns)]
    return replace(structure, columns=tuple(columns), key=indexes, ordering=ordering)


def _independent(edits: tuple[Edit, ...]) -> bool:
    """Whether no two of them are about the same column: a statement's changes are all of the table
    as it was before."""
    seen: set[str] = set()
    for edit in edits:
        touched = edit.touched if edit.kind != "key" else set()
        if seen & touched:
            return False
        seen |= touched
    return True


def _apply(columns: list[WireColumn], key: list[str], edit: Edit, charset: str) -> bool:
    """Change the columns, and the key's names; False where the edit does not fit."""
    names = [column.name.lower() for column in columns]
    name = edit.name.lower()
    at, column = len(columns), edit.column
    if edit.kind == "added":
        if name in names:
            return False
    elif name in names:
        at = names.index(name)
        before = columns.pop(at)
        if edit.kind == "removed":
            key[:] = [part for part in key if part.lower() != name]
            return True
        column = column or before._replace(name=edit.names[0])
        key[:] = [column.name if part.lower() == name else part for part in key]
    if column is None or (edit.kind != "added" and name not in names):
        return False
    if column.charset == INHERITED == charset:
        return False
    if edit.place is not None:
        behind = [column.name.lower() for column in columns]
        if edit.place and edit.place.lower() not in behind:
            return False
        if not edit.place and _OWN_KEY in behind:
            return False
        at = behind.index(edit.place.lower()) + 1 if edit.place else 0
    columns.insert(at, resized(column, charset))
    return True
