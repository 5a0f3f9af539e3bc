"""What a transform is: plans by schema, made once, and batches changed by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from ensign_core.change import EVENT_COLUMNS, Batch, Column, Schema
from ensign_core.config.transforms import TransformConfig
from ensign_core.errors import EnsignError

PLANS_MAX = 4096
"""Schemas whose plans a transform keeps."""

MESSAGES = "pg_logical.message"
"""The schema of logical messages, which no table's name is meant for (the connector's README)."""

_PREFIX = Column("prefix", "text", "text", nullable=False)
"""The first column of a message in the stream of a broker's records, such as the one that names a
gap: no transform is meant for it, whatever its topic is called."""

P = TypeVar("P")


class MisfitError(Exception):
    """A record that says itself what its columns are, as one of JSON does, does not fit the config:
    ``fault`` says why. It is the record's fault, and none of the records behind it."""

    def __init__(self, fault: EnsignError) -> None:
        super().__init__(fault.code)
        self.fault = fault


class Transform(ABC, Generic[P]):
    """One step of a `Chain`, which calls it from one thread. A plan is what it does to the events
    of a schema; ``P`` is its own."""

    def __init__(self, config: TransformConfig) -> None:
        self.name = str(getattr(config, "type", ""))
        self.on_error = config.on_error
        self._tables = config.tables
        self._plans: dict[Schema, P | None] = {}
        self._misfits: dict[Schema, EnsignError] = {}

    def plans(self, batch: Batch, used: Callable[[int], bool]) -> list[P | None]:
        """One plan per schema of the batch, None for those that it does not apply to or that are
        not ``used``. Raises an `EnsignError` for a table's schema that does not fit the config,
        which no event is to blame for: it stops the pipeline or the sink; and a `MisfitError` for
        a record's."""
        return [
            self._plan(schema) if used(place) else None
            for place, schema in enumerate(batch.schemas)
        ]

    def _plan(self, schema: Schema) -> P | None:
        try:
            return self._plans[schema]
        except KeyError:
            if len(self._plans) + len(self._misfits) >= PLANS_MAX:
                self._plans.clear()
                self._misfits.clear()
        if schema in self._misfits:
            raise MisfitError(self._misfits[schema])
        try:
            plan = self._plans[schema] = self.plan(schema) if self._applies(schema) else None
        except EnsignError as fault:
            if not _of_record(schema):
                raise
            self._misfits[schema] = fault
            raise MisfitError(fault) from None
        return plan

    def _applies(self, schema: Schema) -> bool:
        if not schema.columns:
            # The begin and the commit of transactions, or a table without columns.
            return False
        if _of_record(schema) and schema.columns[0] == _PREFIX:
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


def _of_record(schema: Schema) -> bool:
    """Whether a schema was made for the records of a broker's topic, and is not that of all
    events."""
    of_topic = [kind for kind, _ in schema.names] == ["topic"]
    return of_topic and schema.columns[: len(EVENT_COLUMNS)] != EVENT_COLUMNS


def key_only(schema: Schema) -> bool:
    """Whether a schema was made of a record's key: of a delete before which nothing told what the
    topic's records look like. What columns it lacks nobody knows."""
    return _of_record(schema) and all(column.key for column in schema.columns)


def matching(columns: Sequence[Column], globs: Sequence[str], schema: Schema) -> Iterator[int]:
    """The places of the columns that a glob matches. Raises ``transform.unknown_column`` for a name
    without a wildcard that no column has: a mask that masks nothing for a typing error is worse
    than a pipeline that stops."""
    names = [column.name for column in columns]
    for glob in globs:
        wild = any(char in glob for char in "*?[")
        if not wild and glob not in names and not key_only(schema):
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
