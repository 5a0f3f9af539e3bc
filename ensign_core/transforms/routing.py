"""``route``: the topic by names and values."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ensign_core.change import Batch, Op, Schema
from ensign_core.config.topics import route_columns, route_name
from ensign_core.config.transforms import RouteConfig
from ensign_core.errors import EnsignError
from ensign_core.rows import edit
from ensign_core.transforms.pieces import SCHEMAS_MAX, events_by_schema, routed, too_many_topics
from ensign_core.transforms.transform import Transform, unknown_column


class Routes(NamedTuple):
    """The topic of a schema's events: ``fixed``, or by the values of the columns at ``places``.
    ``otherwise`` is that of events without a value, None if they are poison."""

    fixed: str | None
    places: tuple[int, ...]
    otherwise: str | None


class Route(Transform[Routes]):
    """``route``. Events without a row (a truncate, say) go by names alone, or where they would go
    without it."""

    def __init__(self, config: RouteConfig) -> None:
        super().__init__(config)
        self._template = config.topic
        self._otherwise = config.otherwise
        self._columns = list(dict.fromkeys(route_columns(config.topic)))

    def plan(self, schema: Schema) -> Routes:
        places = {column.name: place for place, column in enumerate(schema.columns)}
        for name in self._columns:
            if name not in places:
                raise unknown_column(name, schema)
        # Names that the source lacks show here, and stop it.
        name = route_name(self._template, schema, dict.fromkeys(self._columns, "x"), "x")
        otherwise = self._otherwise and route_name(self._otherwise, schema, {})
        return Routes(
            None if self._columns else name,
            tuple(places[column] for column in self._columns),
            otherwise,
        )

    def apply(self, batch: Batch, plans: Sequence[Routes | None]) -> Batch:
        routes = list(batch.routes or [""] * len(batch.schemas))
        for schema_id, plan in enumerate(plans):
            if plan is not None and plan.fixed is not None:
                routes[schema_id] = plan.fixed
        if all(plan is None or plan.fixed is not None for plan in plans):
            return replace(batch, routes=routed(routes))
        schemas, ids = list(batch.schemas), array("H", batch.schema_ids)
        by_value = [None if plan is None or plan.fixed is not None else plan for plan in plans]
        for schema_id, events in events_by_schema(batch, by_value).items():
            added: dict[str, int] = {}
            for index, route in zip(
                events, self._chosen(batch, schema_id, events, by_value[schema_id]), strict=True
            ):
                if route:
                    place = added.get(route)
                    if place is None:
                        place = added[route] = len(schemas)
                        schemas.append(schemas[schema_id])
                        routes.append(route)
                        if len(schemas) > SCHEMAS_MAX:
                            raise too_many_topics()
                    ids[index] = place
        return replace(batch, schema_ids=ids, schemas=schemas, routes=routed(routes))

    def _chosen(
        self, batch: Batch, schema_id: int, events: Sequence[int], plan: Routes | None
    ) -> list[str]:
        """A route per event, empty for one without a row."""
        assert plan is not None
        schema = batch.schemas[schema_id]
        ends = batch.ends
        values: list[list[object]] = []
        for place in plan.places:
            column, _ = edit.column(
                batch.body, ends, batch.schema_ids, schema_id, len(schema.columns), place,
                schema.columns[place].key, False, None,
            )  # fmt: skip
            values.append(column)
        known: dict[tuple[object, ...], str] = {}
        chosen: list[str] = []
        for index, found in zip(events, zip(*values, strict=True), strict=True):
            route = known.get(found)
            if route is None:
                route = known[found] = self._of(schema, plan, found)
            has_row = ends[index] != (ends[index - 1] if index else 0)
            if not route and has_row and batch.ops[index] != Op.REMOVED:
                raise EnsignError(
                    "transform.no_value",
                    f"A column that an event of {schema.name} is routed by is null or unknown.",
                    "Say with `otherwise` where such events go.",
                )
            chosen.append(route)
        return chosen

    def _of(self, schema: Schema, plan: Routes, found: tuple[object, ...]) -> str:
        texts = {name: str(value) for name, value in zip(self._columns, found, strict=True)}
        if None in found:
            return plan.otherwise or ""
        return route_name(self._template, schema, texts)
