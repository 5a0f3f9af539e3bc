"""Records of Debezium's connectors as rows: the envelope in JSON, with or without schemas.

After "Data change events" in the documentation of Debezium's connectors (3.x). ``c``, ``r``, ``u``,
``d``, ``t`` and ``m`` are insert, snapshot row, update, delete, truncate and message. ``before`` is
the old image: of the key only when it has no other column, or nulls in all others where Debezium's
PostgreSQL connector wrote it, which has them for want of the values. The key's columns are those of
the record's key. A tombstone is nothing to store: the delete was there before it.

- With schemas, a column's type is what its field says (`ensign_core.formats.decoded_values`);
  without, it is what its JSON is: string, number, boolean, or ``struct`` for objects and lists,
  which are the very text; a null has the type that the column had last.
- The placeholder of an unchanged value is an unchanged value.
- The table's name is the source's ``db``, ``schema`` and ``table`` (or ``collection``, whose rows
  are JSON in a string, of the key ``_id``), else the topic's.
- The transaction is the source's: ``txId``, ``gtid``, or its place; ``lsn``, file and ``pos``, or
  whatever place the connector has. The row's place in it is known where Debezium was told to
  provide transaction metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ensign_core.change import NULL, TEXT, UNCHANGED, Column, Logical, Op, Schema
from ensign_core.formats.debezium import PRODUCT
from ensign_core.formats.debezium_values import PLACEHOLDER, UNAVAILABLE
from ensign_core.formats.decoded_source import Source, Values, source_of, values_of
from ensign_core.formats.decoded_structures import data_of
from ensign_core.formats.decoded_values import STRUCT, FieldType, field_type
from ensign_core.formats.records import Members, Row, fault, members_of
from ensign_core.formats.values import quote
from ensign_core.rows import join

SCHEMAS_MAX: Final = 1024
"""Compiled schemas a decoder keeps, and as many topics whose columns' types it remembers."""
COLUMNS_MAX: Final = 65_535

_OPS: Final = {
    b"c": Op.INSERT,
    b"r": Op.SNAPSHOT,
    b"u": Op.UPDATE,
    b"d": Op.DELETE,
    b"t": Op.TRUNCATE,
    b"m": Op.MESSAGE,
}
_STRING, _INT, _FLOAT, _BOOL, _OBJECT, _ARRAY = b"sifb{["

_Type = tuple[str, Logical]
_TEXT: Final[_Type] = ("string", "text")
_TYPES: Final[dict[int, _Type]] = {
    _STRING: _TEXT,
    _INT: ("integer", "int"),
    _FLOAT: ("number", "float"),
    _BOOL: ("boolean", "bool"),
}
_ANY: Final[_Type] = (STRUCT.native, STRUCT.logical)
_MESSAGE: Final = (Column("prefix", "text", "text", False), Column("content", "bytea", "text"))

_WORDS: Final = {b"t": b"true", b"f": b"false"}

_Typed = dict[str, FieldType]


class _Images(NamedTuple):
    before: Members | None
    after: Members | None


class _Table:
    """What a table had last: the types of its columns as JSON showed them, and its schema."""

    def __init__(self) -> None:
        self.types: dict[str, _Type] = {}
        self.schema: Schema | None = None


class DebeziumDecoder:
    def __init__(self) -> None:
        self._typed: dict[tuple[bytes, bool], _Typed] = {}
        self._schemas: dict[object, Schema] = {}
        self._tables: dict[tuple[str, str], _Table] = {}

    def row(self, topic: str, key: bytes | None, value: bytes | None) -> Row | None:
        if value is None:
            return None
        schema, payload = _unwrapped(value)
        if payload is None:
            return None
        envelope = values_of(members_of(payload))
        kind, letter = envelope["op"]
        op = _OPS.get(letter) if kind == _STRING else None
        if op is None or envelope["source"][0] != _OBJECT:
            raise fault("not_debezium")
        block, transaction = _struct(envelope["source"]), _struct(envelope["transaction"])
        source = source_of(topic, block, op, transaction)
        if op == Op.MESSAGE:
            return _message(source, envelope["message"])
        # MongoDB's rows are JSON in a string: their schema says nothing of them.
        typed = schema is not None and source.connector != "mongodb"
        types = self._types(schema, source) if schema is not None and typed else None
        if op == Op.TRUNCATE:
            table = self._table(topic, source.name)
            found = table.schema or self._columns(table, source, types, _Images(None, None), ())
            return Row(op, found, b"", source.tx, source.ordinal)
        of_key = _key(key)
        images = _Images(_image(envelope["before"]), _image(envelope["after"]))
        if source.connector == "mongodb":
            of_key, images = _documents(of_key, images)
        images = _complete(op, images, of_key)
        names = tuple(dict.fromkeys(n for image in images if image for n in image[0]))
        key_names = tuple(name for name in of_key[0] if name in (types or names))
        table = self._table(topic, source.name)
        found = table.schema = self._columns(table, source, types, images, key_names)
        return Row(op, found, _body(found, types, images, source), source.tx, source.ordinal)

    def _types(self, schema: bytes, source: Source) -> _Typed:
        """The types of a row's columns by the schema of its envelope."""
        found = self._typed.get((schema, source.has_schema))
        if found is None:
            if len(self._typed) >= SCHEMAS_MAX:
                self._typed.clear()
            try:
                found = _field_types(schema, postgres=source.has_schema)
            except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
                raise fault("not_debezium") from None
            self._typed[schema, source.has_schema] = found
        return found

    def _columns(
        self,
        table: _Table,
        source: Source,
        types: _Typed | None,
        images: _Images,
        key_names: tuple[str, ...],
    ) -> Schema:
        """The schema of a row."""
        if types is None:
            found = _types_of(images, table.types)
        else:
            found = {name: (kind.native, kind.logical) for name, kind in types.items()}
        if len(found) > COLUMNS_MAX:
            raise fault("too_many_columns")
        shape = source.names, key_names, tuple(found.items())
        schema = self._schemas.get(shape)
        if schema is None:
            if len(self._schemas) >= SCHEMAS_MAX:
                self._schemas.clear()
            schema = self._schemas[shape] = Schema(
                source.name,
                source.names,
                tuple(
                    Column(name, native, logical, key=name in key_names)
                    for name, (native, logical) in found.items()
                ),
            )
        return schema

    def _table(self, topic: str, name: str) -> _Table:
        found = self._tables.get((topic, name))
        if found is None:
            if len(self._tables) >= SCHEMAS_MAX:
                self._tables.clear()
            found = self._tables[topic, name] = _Table()
        return found


def _unwrapped(value: bytes) -> tuple[bytes | None, bytes | None]:
    """Schema and payload of what Kafka Connect's JSON converter wrote; either may be None."""
    found = members_of(value)
    if set(found[0]) != {"schema", "payload"}:
        return None, value
    of = values_of(found)
    kind, payload = of["payload"]
    if kind == NULL:
        return None, None
    if kind != _OBJECT:
        raise fault("not_debezium")
    return of["schema"][1] if of["schema"][0] == _OBJECT else None, payload


def _key(key: bytes | None) -> Members:
    if key is None:
        return (), b"", []
    found = members_of(key)
    if set(found[0]) == {"schema", "payload"}:
        kind, payload = values_of(found)["payload"]
        return members_of(payload) if kind == _OBJECT else ((), b"", [])
    return found


def _struct(value: tuple[int, bytes]) -> Values:
    return values_of(members_of(value[1])) if value[0] == _OBJECT else Values()


def _image(value: tuple[int, bytes]) -> Members | None:
    kind, text = value
    if kind == NULL:
        return None
    if kind not in (_OBJECT, _STRING):
        raise fault("not_debezium")
    return members_of(text)


def _complete(op: Op, images: _Images, key: Members) -> _Images:
    """The images that the op asks for. A delete without old row has the record's key for one."""
    if op == Op.DELETE:
        before = images.before or (key if key[0] else None)
        images = _Images(before, None)
        if before is None:
            raise fault("not_debezium")
    elif images.after is None:
        raise fault("not_debezium")
    return images


def _documents(key: Members, images: _Images) -> tuple[Members, _Images]:
    """Key and documents of MongoDB with one column for the key, ``_id``. The key is a field ``id``
    whose text is the document's ``_id`` in JSON, written otherwise than in the document (a long is
    a plain number): the key's is taken for both, so that a delete has the key of its insert."""
    kind, text = values_of(key)["id"]
    if kind != _STRING:
        return key, images
    found = members_of(b'{"_id":' + text + b"}")
    if len(found[0]) != 1:
        raise fault("not_debezium")
    return found, _Images(*(image and _with_id(image, found) for image in images))


def _with_id(image: Members, key: Members) -> Members:
    names, kinds, texts = image
    if "_id" not in names:
        return image
    at = names.index("_id")
    return (
        names,
        kinds[:at] + key[1] + kinds[at + 1 :],
        [*texts[:at], *key[2], *texts[at + 1 :]],
    )


def _field_types(schema: bytes, *, postgres: bool) -> _Typed:
    fields: list[Mapping[str, Any]] = json.loads(schema)["fields"]
    by_name = {field.get("field"): field for field in fields}
    of_row = (by_name.get("after") or by_name["before"])["fields"]
    found = {str(field["field"]): field_type(field, postgres=postgres) for field in of_row}
    if len(found) != len(of_row):
        raise ValueError
    return found


def _types_of(images: _Images, last: dict[str, _Type]) -> dict[str, _Type]:
    """The types of the columns of both images by their JSON, in the order of the newer one. What
    they are sure of is noted in ``last``, which gives the rest."""
    found: dict[str, _Type] = {}
    sure: dict[str, _Type] = {}
    for image in (images.after, images.before):
        for name, kind, text in zip(*image, strict=True) if image else ():
            unchanged = _unchanged(kind, text)
            if kind == NULL or unchanged:
                told = unchanged if unchanged != _TEXT else None
                found.setdefault(name, told or last.get(name, _TEXT))
            else:
                own = _TYPES.get(kind, _ANY)
                other = sure.get(name, own)
                sure[name] = found[name] = own if own == other else _both(own, other)
    if len(last) > COLUMNS_MAX:
        last.clear()
    last.update(sure)
    return found


def _unchanged(kind: int, text: bytes) -> _Type | None:
    """The type that a placeholder tells, None for any other value."""
    return UNAVAILABLE.get(text) if kind in (_STRING, _ARRAY) else None


def _both(one: _Type, other: _Type) -> _Type:
    """The type of a column whose new value is of another kind than its old one."""
    numbers = {_TYPES[_INT], _TYPES[_FLOAT]}
    return _TYPES[_FLOAT] if {one, other} == numbers else _ANY


def _body(schema: Schema, types: _Typed | None, images: _Images, source: Source) -> bytes:
    body = b""
    if images.before is not None:
        marker, missing = _old_kind(schema, images.before, source)
        body = marker + _row(schema, types, images.before, missing, only_key=marker == b"K")
    if images.after is not None:
        body += b"N" + _row(schema, types, images.after, UNCHANGED)
    return body


def _old_kind(schema: Schema, image: Members, source: Source) -> tuple[bytes, int]:
    """The marker of an old image, and the kind of the columns that it lacks."""
    in_key = {column.name for column in schema.columns if column.key}
    others = {kind for name, kind in zip(image[0], image[1], strict=True) if name not in in_key}
    if not others:
        return b"K", NULL
    of_debezium = source.connector == "postgresql" and not source.version.startswith(PRODUCT)
    if in_key and of_debezium and others == {NULL}:
        return b"K", NULL
    return b"O", UNCHANGED


def _row(
    schema: Schema, types: _Typed | None, image: Members, missing: int, *, only_key: bool = False
) -> bytes:
    found: Values = values_of(image)
    kinds, texts = bytearray(), []
    for column in schema.columns:
        kind, text = found.pop(column.name, (missing, b""))
        if only_key and not column.key:
            kind, text = NULL, b""
        elif kind not in (NULL, UNCHANGED):
            try:
                kind, text = _value(column, types, kind, text)
            except (ValueError, ArithmeticError, RecursionError):
                raise fault("not_of_its_type") from None
        kinds.append(kind)
        texts.append(text)
    if found:
        raise fault("not_of_its_type")
    return join(bytes(kinds), texts)


def _value(column: Column, types: _Typed | None, kind: int, text: bytes) -> tuple[int, bytes]:
    """One value, not null, as the row layout has it."""
    if types is not None:
        known = types[column.name]
        if _is_placeholder(known, kind, text):
            return UNCHANGED, b""
        return known.read(kind, text)
    if _unchanged(kind, text):
        return UNCHANGED, b""
    if column.native == STRUCT.native and kind in (_STRING, _BOOL):
        text = quote(text.decode()).encode() if kind == _STRING else _WORDS[text]
    return TEXT, text


def _is_placeholder(known: FieldType, kind: int, text: bytes) -> bool:
    if known.logical == "bytes":
        return kind == _STRING and data_of(kind, text) == PLACEHOLDER.encode()
    if kind == _STRING and text == PLACEHOLDER.encode():
        return True
    return (known.native == "json" or known.native.endswith("[]")) and text in UNAVAILABLE


def _message(source: Source, message: tuple[int, bytes]) -> Row:
    """A logical message of Postgres; its content is bytes in base64."""
    if message[0] != _OBJECT:
        raise fault("not_debezium")
    found = _struct(message)
    prefix, content = found["prefix"], found["content"]
    if prefix[0] != _STRING:
        raise fault("not_debezium")
    try:
        data = data_of(*content)
    except ValueError:
        raise fault("not_of_its_type") from None
    kind = TEXT
    try:
        data.decode()
    except UnicodeDecodeError:
        kind = b"b"[0]
    schema = Schema(source.name, source.names, _MESSAGE)
    body = b"N" + join(bytes((TEXT, kind)), [prefix[1], data])
    return Row(Op.MESSAGE, schema, body, source.tx, source.ordinal)
