"""``python``: a function of the user's own.

It is called with a `Batch` and returns one with as many events in the same order. It may change
their ops (`Op.REMOVED` takes one out), schemas, bodies and routes; position, offset, topic and
transactions are the batch's own and stay, whatever it returns.
"""

from __future__ import annotations

import importlib
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ensign_core.change import Batch, Op, Schema
from ensign_core.config.topics import route_fault
from ensign_core.config.transforms import PythonConfig
from ensign_core.errors import EnsignError, unexpected
from ensign_core.rows import edit
from ensign_core.transforms.pieces import cut, events_by_schema, joined
from ensign_core.transforms.transform import Transform


class Function(Transform[bool]):
    """``python``."""

    def __init__(self, config: PythonConfig) -> None:
        super().__init__(config)
        self._path = config.function
        self._function = imported(config.function)

    def plan(self, _schema: Schema) -> bool:
        return True

    def apply(self, batch: Batch, plans: Sequence[bool | None]) -> Batch:
        if all(plan is not None for plan in plans):
            return self._called(batch)
        meant = events_by_schema(batch, plans)
        mine = sorted(index for indexes in meant.values() for index in indexes)
        if not mine:
            return batch
        # Runs of events that it is meant for, and of others between them.
        stops = [i + 1 for i, following in pairwise(mine) if following != i + 1]
        starts = [b for a, b in pairwise(mine) if b != a + 1]
        ends = sorted({mine[0], *stops, *starts, mine[-1] + 1, len(batch)} - {0})
        first = set(mine)
        at, parts = 0, []
        for piece in cut(batch, ends):
            parts.append(self._called(piece) if at in first else piece)
            at += len(piece)
        return joined(batch, parts)

    def _called(self, batch: Batch) -> Batch:
        # Whatever it does to what it got, the batch stays as it was for its dead letters.
        given = replace(
            batch, schema_ids=array("H", batch.schema_ids), ends=array("I", batch.ends),
            runs=list(batch.runs), schemas=list(batch.schemas), routes=list(batch.routes),
        )  # fmt: skip
        try:
            found: Any = self._function(given)
        except SystemExit:
            # It would end the thread, and nobody would know why.
            raise EnsignError(
                "transform.python_failed",
                f"The function {self._path} asked Python to exit.",
                "Let it raise an exception of another kind.",
            ) from None
        fault = _fault(batch, found)
        if fault is not None:
            raise EnsignError(
                "transform.python_result",
                f"The function {self._path} did not return what a transform must: {fault}.",
                "Return a Batch with as many events in the same order; take events out with "
                "Op.REMOVED.",
            )
        return replace(
            batch, ops=bytes(found.ops), schema_ids=found.schema_ids, ends=found.ends,
            body=bytes(found.body), schemas=list(found.schemas), routes=list(found.routes),
        )  # fmt: skip


def _fault(batch: Batch, found: object) -> str | None:
    if not isinstance(found, Batch):
        return "it is no Batch"
    count = len(batch)
    if not len(found.ops) == len(found.schema_ids) == len(found.ends) == count:
        return "it has another number of events"
    if found.routes and len(found.routes) != len(found.schemas):
        return "it has not one route per schema"
    if not all(isinstance(route, str) for route in found.routes) or any(
        route and route_fault(route, ()) for route in found.routes
    ):
        return "it has a route that is no topic's name"
    if any(op not in _OPS for op in set(found.ops)):
        return "it has an op that is none"
    try:
        edit.check(
            bytes(found.body), found.ends, found.schema_ids,
            [len(schema.columns) for schema in found.schemas],
        )  # fmt: skip
    except (EnsignError, ValueError, TypeError):
        return "its rows do not fit the row layout or their schema"
    return None


_OPS = frozenset(map(int, Op))


def imported(path: str) -> Callable[[Batch], object]:
    """The function that ``package.module:function`` names. Called when a pipeline starts and by
    ``ensign check``. Raises ``transform.python_missing``."""
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError:
        sentence = f"The module of the function {path} is not there, or imports one that is not."
    except AttributeError:
        sentence = f"The module of the function {path} has no such function."
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of the user's
        sentence = f"Importing {path} failed. {unexpected(error).sentence}"
    else:
        if callable(found):
            return found  # type: ignore[no-any-return]  # what it returns is looked at
        sentence = f"{path} is no function."
    raise EnsignError(
        "transform.python_missing",
        sentence,
        f"Install the package, or set PYTHONPATH to its folder (such as PYTHONPATH={os.curdir}).",
    )
