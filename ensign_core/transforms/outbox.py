"""``outbox``: rows that an application inserts into an outbox table, in the transaction of its
business, become events. Columns and topic are named as Debezium's outbox event router names them
(its documentation, "Outbox Event Router")."""

from __future__ import annotations

import base64
import binascii
import json
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from ensign_core.change import BINARY, NULL, UNCHANGED, Batch, Op, Schema, event_schema
from ensign_core.config.topics import route_name
from ensign_core.config.transforms import OutboxConfig
from ensign_core.errors import EnsignError
from ensign_core.rows import damaged, new_image, split
from ensign_core.transforms.pieces import SCHEMAS_MAX, bodies, too_many_topics
from ensign_core.transforms.transform import Transform, unknown_column

_INSERTED = frozenset({Op.INSERT, Op.SNAPSHOT})


class Columns(NamedTuple):
    """Where an outbox table has what an event consists of; ``others`` go into its metadata."""

    id: int
    aggregate_type: int
    aggregate_id: int
    type: int | None
    payload: int
    others: tuple[int, ...]
    mimetype: str


class Outbox(Transform[Columns]):
    """``outbox``. Inserted rows and those of a snapshot become events; deletes, which tidy the
    table, and what concerns it as a whole are taken out; an update is poison."""

    def __init__(self, config: OutboxConfig) -> None:
        super().__init__(config)
        self._config = config

    def plan(self, schema: Schema) -> Columns:
        config = self._config
        places = {column.name: place for place, column in enumerate(schema.columns)}

        def place(name: str) -> int:
            if name not in places:
                raise unknown_column(name, schema)
            return places[name]

        route_name(config.topic, schema, {}, "x")
        found = [
            place(name)
            for name in (
                config.id_column, config.aggregate_type_column, config.aggregate_id_column,
                config.payload_column,
            )
        ]  # fmt: skip
        kind = None if config.type_column is None else place(config.type_column)
        others = [at for at in range(len(schema.columns)) if at not in found and at != kind]
        data = schema.columns[found[3]]
        mimetype = config.mimetype or (
            "application/json" if data.logical == "json"
            else "application/octet-stream" if data.logical == "bytes"
            else "text/plain"
        )  # fmt: skip
        return Columns(found[0], found[1], found[2], kind, found[3], tuple(others), mimetype)

    def apply(self, batch: Batch, plans: Sequence[Columns | None]) -> Batch:
        if not any(plans):
            return batch
        events = bodies(batch)
        ops, ids = bytearray(batch.ops), array("H", batch.schema_ids)
        schemas, routes = list(batch.schemas), list(batch.routes or [""] * len(batch.schemas))
        added: dict[tuple[int, str], int] = {}
        for index, schema_id in enumerate(batch.schema_ids):
            plan = plans[schema_id]
            op = ops[index]
            if plan is None or op == Op.REMOVED:
                continue
            schema = schemas[schema_id]
            if op not in _INSERTED:
                if op == Op.UPDATE:
                    raise _updated(schema)
                ops[index], events[index] = Op.REMOVED, b""
                continue
            route, events[index] = self._event(schema, plan, events[index])
            place = added.get((schema_id, route))
            if place is None:
                place = added[schema_id, route] = len(schemas)
                schemas.append(event_schema(route))
                routes.append(route)
                if len(schemas) > SCHEMAS_MAX:
                    raise too_many_topics()
            ops[index], ids[index] = Op.EVENT, place
        return replace(
            batch, ops=bytes(ops), schema_ids=ids, schemas=schemas, routes=routes,
            ends=array("I", accumulate(map(len, events))), body=b"".join(events),
        )  # fmt: skip

    def _event(self, schema: Schema, plan: Columns, body: bytes) -> tuple[str, bytes]:
        """The topic and the body of the event that a row is."""
        if body[:1] != b"N":
            raise damaged()
        kinds, values = split(body[1:])
        if len(kinds) != len(schema.columns):
            raise damaged()
        aggregate_type = _text(schema, kinds, values, plan.aggregate_type)
        if not aggregate_type:
            raise EnsignError(
                "transform.no_value",
                f"A row of {schema.name} has no aggregate type.",
                "Let the application write one.",
            )
        metadata = {
            name: text
            for name, text in (
                ("id", _text(schema, kinds, values, plan.id)),
                *(
                    (schema.columns[at].name, _text(schema, kinds, values, at))
                    for at in plan.others
                ),
            )
            if text is not None
        }
        data = _bytes(schema, kinds, values, plan.payload)
        kind = None if plan.type is None else _text(schema, kinds, values, plan.type)
        row = [
            _bytes(schema, kinds, values, plan.aggregate_id), data,
            json.dumps(metadata, ensure_ascii=False),
            plan.mimetype, kind,
        ]  # fmt: skip
        return route_name(self._config.topic, schema, {}, aggregate_type), new_image(row)


def _bytes(schema: Schema, kinds: bytes, values: list[bytes], place: int) -> bytes | None:
    """A value's bytes, those of a bytea for its text in hex."""
    if kinds[place] in (NULL, UNCHANGED):
        return None
    value = values[place]
    if schema.columns[place].logical == "bytes" and kinds[place] != BINARY and value[:2] == b"\\x":
        try:
            return binascii.unhexlify(value[2:])
        except ValueError:
            return value
    return value


def _text(schema: Schema, kinds: bytes, values: list[bytes], place: int) -> str | None:
    """A value as text, base64 where it is none."""
    value = _bytes(schema, kinds, values, place)
    if value is None:
        return None
    if schema.columns[place].logical == "bytes":
        return base64.b64encode(value).decode()
    return value.decode("utf-8", "replace")


def _updated(schema: Schema) -> EnsignError:
    return EnsignError(
        "transform.outbox_update",
        f"A row of the outbox {schema.name} was updated, and an event is not.",
        "Insert a row for each event; an application that marks rows as sent needs no mark here.",
    )
