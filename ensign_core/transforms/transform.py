"""What a transform is: plans by schema, made once, and batches changed by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from ensign_core.change import Batch, Column, Schema
from ensign_core.config.transforms import TransformConfig
from ensign_core.errors import EnsignError

PLANS_MAX = 4096
"""Schemas whose plans a transform keeps."""

MESSAGES = "pg_logical.message"
"""The schema of logical messages, which no table's name is meant for (the connector's README)."""

P = TypeVar("P")


class Transform(ABC, Generic[P]):
    """One step of a `Chain`, which calls it from one thread. A plan is what it does to the events
    of a schema; ``P`` is its own."""

    def __init__(self, config: TransformConfig) -> None:
        self.name = str(getattr(config, "type", ""))
        self.on_error = config.on_error
        self._tables = config.tables
        self._plans: dict[Schema, P | None] = {}

    def plans(self, batch: Batch, used: Callable[[int], bool]) -> list[P | None]:
        """One plan per schema of the batch, None for those that it does not apply to or that are
        not ``used``. Raises an `EnsignError` for a schema that does not fit the config, which no
        event is to blame for: it stops the pipeline or the sink."""
        return [
            self._plan(schema) if used(place) else None
            for place, schema in enumerate(batch.schemas)
        ]

    def _plan(self, schema: Schema) -> P | None:
        try:
            return self._plans[schema]
        except KeyError:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
        plan = self._plans[schema] = self.plan(schema) if self._applies(schema) else None
        return plan

    def _applies(self, schema: Schema) -> bool:
        if not schema.columns:
            # The begin and the commit of transactions, or a table without columns.
            return False
        if not self._tables:
            return schema.name != MESSAGES
        return any(fnmatchcase(schema.name, glob) for glob in self._tables)

    @abstractmethod
    def plan(self, schema: Schema) -> P:
        """What to do with the events of a schema."""

    @abstractmethod
    def apply(self, batch: Batch, plans: Sequence[P | None]) -> Batch:
        """The batch, changed: as many events in the same order. May raise anything for an event
        that it fails for; the chain finds out which."""


def matching(columns: Sequence[Column], globs: Sequence[str], schema: Schema) -> Iterator[int]:
    """The places of the columns that a glob matches. Raises ``transform.unknown_column`` for a name
    without a wildcard that no column has: a mask that masks nothing for a typing error is worse
    than a pipeline that stops."""
    names = [column.name for column in columns]
    for glob in globs:
        if not any(char in glob for char in "*?[") and glob not in names:
            raise unknown_column(glob, schema)
    return (
        place
        for place, name in enumerate(names)
        if any(name == glob or fnmatchcase(name, glob) for glob in globs)
    )


def unknown_column(name: str, schema: Schema) -> EnsignError:
    return EnsignError(
        "transform.unknown_column",
        f"A transform names the column {name}, which {schema.name} has not.",
        "Correct the name, say with `tables` which tables it is meant for, or use a glob, which "
        "may match no column.",
    )
