"""Definitions of columns in statements, as the wire has them. Pure.

Source: MySQL Reference Manual, "CREATE TABLE Statement" and "Using Data Types from Other Database
Engines"; MariaDB Knowledge Base, "CREATE TABLE" and "Data Types".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from connectors.mysql.declared import INHERITED, wire
from connectors.mysql.wire import Type, WireColumn
from connectors.mysql.words import Reader, Word, split

REAL_AS_FLOAT: Final = 0x1
ORACLE: Final = 0x200
"""Bits of a statement's sql_mode: what a type's name means."""

_ALIASES: Final = {
    "int1": "tinyint", "int2": "smallint", "int3": "mediumint", "middleint": "mediumint",
    "int4": "int", "integer": "int", "int8": "bigint", "dec": "decimal", "numeric": "decimal",
    "fixed": "decimal", "float4": "float", "float8": "double", "character": "char",
    "nchar": "char", "nvarchar": "varchar", "varcharacter": "varchar",
}  # fmt: skip
_NATIONAL: Final = frozenset(("nchar", "nvarchar", "national"))
_TEXTS: Final = frozenset(
    ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
)
_BINARY: Final = {"char": "binary", "varchar": "varbinary"}
_SIZED: Final = ("tiny", "", "medium", "long")
CHARSETS: Final = frozenset(
    ("big5", "dec8", "cp850", "hp8", "koi8r", "latin1", "latin2", "swe7", "ascii", "ujis", "sjis",
     "hebrew", "tis620", "euckr", "koi8u", "gb2312", "greek", "cp1250", "gbk", "latin5",
     "armscii8", "utf8mb3", "ucs2", "cp866", "keybcs2", "macce", "macroman", "cp852", "latin7",
     "utf8mb4", "cp1251", "utf16", "utf16le", "cp1256", "cp1257", "utf32", "binary", "geostd8",
     "cp932", "eucjpms", "gb18030")
)  # fmt: skip


class Definition(NamedTuple):
    """A column; ``key``: it says that it is the primary key. ``place``: behind which column, the
    empty string for the first place, None for where it is or the end."""

    column: WireColumn
    key: bool
    place: str | None


def charset_named(name: str) -> str:
    """A charset by a name of it."""
    lower = name.lower()
    return "utf8mb3" if lower == "utf8" else lower


def charset_of_collation(name: str) -> str:
    """The charset of a collation, `INHERITED` where its name has none."""
    found = charset_named(name.partition("_")[0])
    return found if found in CHARSETS else INHERITED


def charset(reader: Reader) -> str | None:
    """Pass ``CHARACTER SET x`` or ``COLLATE x``; the charset, None where neither comes next."""
    if reader.takes("character", "set") or reader.takes("charset") or reader.takes("char", "set"):
        reader.takes("=")
        word = reader.next()
        return charset_named(word.text) if word else None
    if reader.takes("collate"):
        reader.takes("=")
        word = reader.next()
        return charset_of_collation(word.text) if word else None
    return None


def definition(found: list[Word], sql_mode: int, *, mariadb: bool) -> Definition | None:
    """A column by the words of its definition; None where they are not understood."""
    reader = Reader(found)
    name = reader.name()
    if name is None:
        return None
    kind = _kind(reader, sql_mode, mariadb=mariadb)
    return None if kind is None else _Attributes(reader, kind).read(name, mariadb=mariadb)


class _Kind(NamedTuple):
    """A type as the catalog calls it, its parameters, and the charset that it implies."""

    name: str
    inner: str = ""
    charset: str = INHERITED
    document: bool = False


def _kind(reader: Reader, sql_mode: int, *, mariadb: bool) -> _Kind | None:
    if sql_mode & ORACLE and mariadb:
        return None
    word = reader.next()
    if word is None or word.kind != "word":
        return None
    name, charsets = word.text, INHERITED
    if name in _NATIONAL:
        charsets = "utf8mb3"
        if name == "national":
            name = reader.takes_one("char", "character", "varchar", "varcharacter")
    if name in ("bool", "boolean"):
        return _Kind("tinyint", "1")
    if name == "long":
        if reader.takes("varbinary"):
            return _Kind("mediumblob")
        reader.takes_one("varchar", "varcharacter")
        return _Kind("mediumtext")
    if name == "real":
        reader.inner()
        return _Kind("float" if sql_mode & REAL_AS_FLOAT else "double")
    if name == "double":
        reader.takes("precision")
    if name in ("char", "character", "nchar"):
        name = "varchar" if reader.takes_one("varying", "varchar", "varcharacter") else "char"
    name = _ALIASES.get(name, name)
    inner = reader.inner()
    if name == "json" and mariadb:
        return _Kind("longtext", "", "utf8mb4", document=True)
    return _with_inner(name, inner, charsets)


def _with_inner(name: str, inner: list[Word] | None, charsets: str) -> _Kind | None:
    if inner is None:
        return _Kind(name, "", charsets)
    parts = split(inner)
    if name in ("enum", "set"):
        if any(len(part) != 1 or part[0].kind != "text" for part in parts):
            return None
        # The servers cut spaces at a label's end.
        labels = [part[0].text.rstrip(" ").replace("'", "''") for part in parts]
        escaped = [_escaped(label) for label in labels]
        return _Kind(name, ",".join(f"'{label}'" for label in escaped), charsets)
    if any(len(part) != 1 or not part[0].text.isdecimal() for part in parts):
        return None
    numbers = [int(part[0].text) for part in parts]
    if name == "float" and len(numbers) == 1:
        return _Kind("double" if numbers[0] > 24 else "float")
    if name == "text":
        # The smallest one that has room, in a charset that is not known yet.
        return None
    if name == "blob":
        return _sized(name, numbers[0])
    return _Kind(name, ",".join(map(str, numbers)), charsets)


def _escaped(label: str) -> str:
    """As the catalog writes a label."""
    label = label.replace("\\", "\\\\").replace("\0", "\\0")
    return label.replace("\n", "\\n").replace("\r", "\\r")


def _sized(name: str, length: int) -> _Kind:
    """The smallest type that has room for so many bytes."""
    size = next(i for i in range(4) if length < 1 << 8 * (i + 1) or i == 3)
    return _Kind(_SIZED[size] + name)


class _Attributes:
    """What follows a type."""

    def __init__(self, reader: Reader, kind: _Kind) -> None:
        self._reader = reader
        self._kind = kind
        self._charset = kind.charset
        self._words: set[str] = set()
        self._nullable = True
        self._key = False
        self._document = kind.document
        self._place: str | None = None
        self._known = True
        self._generated = False

    def read(self, name: str, *, mariadb: bool) -> Definition | None:
        while self._reader:
            self._one(name, mariadb=mariadb)
        if not self._known:
            return None
        kind, charset_is = self._kind.name, self._charset
        if kind == "serial":
            kind, self._nullable = "bigint", False
            self._words.add("unsigned")
        if kind not in _TEXTS:
            charset_is = ""
        inner = f"({self._kind.inner})" if self._kind.inner else ""
        column = wire(
            name, " ".join([kind + inner, *self._words]), charset_is, nullable=self._nullable,
            document=self._document, mariadb=mariadb,
        )  # fmt: skip
        if column.type == Type.NULL or column.meta > 0xFFFF:
            return None
        return Definition(column._replace(generated=self._generated), self._key, self._place)

    def _one(self, name: str, *, mariadb: bool) -> None:
        """Pass one attribute, or a word that says nothing of the structure."""
        reader = self._reader
        found = charset(reader)
        if found is not None:
            if found != INHERITED:
                self._charset = found
        elif reader.takes_one("unsigned", "zerofill"):
            self._words.add("unsigned")
        elif reader.takes("not", "null"):
            self._nullable = False
        elif reader.takes("primary") or reader.sees("key"):
            reader.takes("key")
            self._key, self._nullable = True, False
        elif reader.takes("unique"):
            reader.takes("key")
        elif reader.takes("first"):
            self._place = ""
        elif reader.takes("after"):
            self._place = reader.name()
        elif reader.takes("compressed"):
            self._words.add("compressed")
        elif reader.takes("ascii"):
            self._charset = "latin1"
        elif reader.takes("unicode"):
            self._charset = "ucs2"
        elif reader.takes("byte"):
            self._kind = self._kind._replace(name=_BINARY.get(self._kind.name, "blob"))
        elif reader.takes("check"):
            self._checked(reader.inner() or [], name)
        elif reader.takes("as"):
            # See `WireColumn.generated`: MySQL's are in all images.
            self._generated = mariadb
            reader.inner()
        elif reader.takes("row") or reader.takes("serial"):
            # Columns of MariaDB's versioned rows; SERIAL DEFAULT VALUE.
            self._known = False
        else:
            self._passed()

    def _passed(self) -> None:
        reader = self._reader
        if reader.takes_one("comment", "default", "references", "srid"):
            # Their value is no attribute.
            if reader.inner() is None:
                reader.next()
            reader.inner()
        elif reader.inner() is None:
            reader.next()

    def _checked(self, found: list[Word], name: str) -> None:
        """MariaDB takes a text that is checked to be JSON for it."""
        inner = Reader(found)
        if inner.takes("json_valid"):
            of = inner.inner() or []
            named = len(of) == 1 and Reader(of).name()
            if named and str(named).lower() == name.lower():
                self._document = True
