"""The format ``cloudevents``: CloudEvents 1.0 in their JSON format, structured mode.

    {"specversion": "1.0", "id", "source", "time", "ensigntxid", "ensignposition", "subject",
     "type", "iodebeziumop", "partitionkey", "datacontenttype",
     "data": {"before", "after", "unchanged"}}

After "CloudEvents - Version 1.0.2", its JSON event format and its extension "Partitioning" (the
CloudEvents repository of the CNCF). ``id`` is ``topic:offset``, so an event has the same one
however often it is sent; ``source`` is ``/ensign/topic``. ``type`` is ``ensign.row.insert`` and so
on by the op's name, ``ensign.message`` and ``ensign.event``. ``time`` is the commit's,
``iodebeziumop`` the letter that Debezium's CloudEvents converter has. Attributes without a value
are left out, as the specification wants it. Values are those of the format ``json``, and
``partitionkey`` is the row's key as a message has it, in a string.

A published event keeps its own ``type`` and mimetype (``datacontenttype``): its data is JSON where
that says JSON and it is, a string where it is text, else ``data_base64``. Its other columns, such
as metadata and headers, are no attributes of a CloudEvent: they are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import quote as percent

from ensign_core.change import NULL, TEXT, UNCHANGED, Batch, Op
from ensign_core.formats.events import event_key
from ensign_core.formats.flat import LETTERS
from ensign_core.formats.images import Table, Tables
from ensign_core.formats.lines import SILENT, Lines, Messages
from ensign_core.formats.values import base64_text, payload, quote
from ensign_core.rows import cloudevents as compiled
from ensign_core.rows import damaged, split


def _mark(op: Op) -> bytes | None:
    if op in SILENT:
        return None
    kind = "message" if op == Op.MESSAGE else f"row.{op.name.lower()}"
    return f',"type":"ensign.{kind}","iodebeziumop":"{LETTERS[op]}"'.encode()


_MARKS = [_mark(op) for op in sorted(Op)]


class CloudEventsFormatter:
    def __init__(self) -> None:
        self._tables = Tables()

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        rows = [table.rows for table in tables]
        head, source = _identity(batch.topic)
        own = partial(_published, tables)
        return Lines(*compiled.lines(batch, rows, _MARKS, head, source, own))

    def messages(self, batch: Batch) -> Messages:
        tables = self._tables.of(batch)
        rows = [table.rows for table in tables]
        head, source = _identity(batch.topic)
        own = partial(_published, tables), partial(event_key, tables)
        return Messages(*compiled.messages(batch, rows, _MARKS, head, source, *own))


def _identity(topic: str) -> tuple[bytes, bytes]:
    """What stands before and behind an event's offset."""
    return (
        f'{{"specversion":"1.0","id":{quote(topic)[:-1]}:'.encode(),
        f'","source":"/ensign/{percent(topic)}"'.encode(),
    )


def _published(tables: Sequence[Table], number: int, body: bytes) -> str:
    """All behind the subject of a published event."""
    if body[:1] != b"N":
        raise damaged()
    kinds, values = split(body[1:])
    columns = tables[number].schema.columns
    if len(kinds) != len(columns):
        raise damaged()
    found: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for column, kind, value in zip(columns, kinds, values, strict=True):
        if kind in (NULL, UNCHANGED):
            continue
        name = "data" if column.logical == "payload" else column.name
        found[name] = value
        if kind == TEXT or name == "key":
            texts[name] = _text(value)
    parts = [f'"type":{quote(texts.get("type") or "ensign.event")}']
    if texts.get("key"):
        parts.append(f'"partitionkey":{quote(texts["key"])}')
    if "data" in found:
        parts.append(_data(found["data"], texts.get("mimetype") or None))
    return "," + ",".join(parts)


def _text(value: bytes) -> str:
    """Empty, which is no attribute, for what is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""


def _data(value: bytes, mimetype: str | None) -> str:
    text = payload(value, mimetype)
    if text.startswith('{"base64":') and text == f'{{"base64":"{base64_text(value)}"}}':
        kind = mimetype or "application/octet-stream"
        return f'"datacontenttype":{quote(kind)},"data_base64":"{base64_text(value)}"'
    kind = mimetype or "application/json"
    if text == quote(_text(value)) and not (mimetype or "").startswith("text/"):
        # Text, whatever its publisher took it for.
        kind = "text/plain"
    return f'"datacontenttype":{quote(kind)},"data":{text}'
