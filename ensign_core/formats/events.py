"""Published events (op ``event``) as JSON text: their key stands apart, and their data is rendered
by what the event's own ``mimetype`` column says, so a row cannot be read column by column."""

from __future__ import annotations

from collections.abc import Sequence

from ensign_core.change import NEW_IMAGE, NULL, TEXT, UNCHANGED
from ensign_core.formats.images import Table
from ensign_core.formats.values import binary, payload, text_or_base64, undecodable
from ensign_core.rows import damaged, split


def event_fields(table: Table, body: bytes) -> tuple[str, str]:
    """The key as JSON, and the inside of the object of the other columns, of one event's body."""
    if body[:1] != bytes((NEW_IMAGE,)):
        raise damaged()
    kinds, values = split(body[1:])
    columns = table.schema.columns
    if len(kinds) != len(columns):
        raise damaged()
    key = "null"
    fields: list[str] = []
    for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        if kind == UNCHANGED:
            continue
        name = columns[i].name
        if kind == NULL:
            text = "null"
        elif name == "key":
            text = text_or_base64(value)
        elif columns[i].logical == "payload":
            text = payload(value, _mimetype(table, kinds, values))
        else:
            text = _plain(table, i, kind, value)
        if name == "key":
            key = text
        else:
            fields.append(f"{table.quoted[i]}:{text}")
    return key, ",".join(fields)


def event_key(tables: Sequence[Table], number: int, body: bytes) -> tuple[bytes | None, bool]:
    """The key of one event as it was published, and whether its data is null: a tombstone, where
    the event comes from a topic that has them."""
    kinds, values = split(body[1:])
    columns = tables[number].schema.columns
    key, gone = None, False
    for column, kind, value in zip(columns, kinds, values, strict=False):
        absent = kind in (NULL, UNCHANGED)
        if column.name == "key":
            key = None if absent else value
        elif column.logical == "payload":
            gone = absent
    return key, gone


def _plain(table: Table, index: int, kind: int, value: bytes) -> str:
    if kind != TEXT:
        return binary(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return undecodable(value)
    render = table.renders[index]
    return (text if render is None else render(text)) or '""'


def _mimetype(table: Table, kinds: bytes, values: list[bytes]) -> str | None:
    for column, kind, value in zip(table.schema.columns, kinds, values, strict=True):
        if column.name == "mimetype":
            return value.decode("utf-8", "replace") if kind == TEXT else None
    return None
