"""The transforms of a pipeline or of a sink, one after the other, and what becomes of events that
one fails for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ensign_core.change import Batch, Change, Op
from ensign_core.config.transforms import (
    AnyTransform,
    DropConfig,
    FilterConfig,
    HashConfig,
    MaskConfig,
    OutboxConfig,
    PythonConfig,
    RenameConfig,
    RouteConfig,
    SelectConfig,
    TruncateConfig,
)
from ensign_core.errors import EnsignError, unexpected
from ensign_core.transforms.columns import Picking, Renaming, Replacing
from ensign_core.transforms.filters import Filter
from ensign_core.transforms.function import Function
from ensign_core.transforms.outbox import Outbox
from ensign_core.transforms.pieces import cut, joined, removed
from ensign_core.transforms.routing import Route
from ensign_core.transforms.transform import MisfitError, Transform

SetAside = Callable[[Change, EnsignError], None]


class Chain:
    """Called by a source's or a sink's loop with each batch, in its thread.

    ``set_aside`` takes an event that a transform failed for, as it was before the first of them;
    ``waits`` says of an error that time mends it: then no event is to blame, and it is raised, as
    is an error for a table's schema that does not fit the config. Raises
    ``transform.python_missing``.
    """

    def __init__(
        self,
        configs: Sequence[AnyTransform],
        set_aside: SetAside,
        waits: Callable[[EnsignError], bool] = lambda _error: False,
    ) -> None:
        self._transforms = [_made(config) for config in configs]
        self._set_aside = set_aside
        self._waits = waits

    def __call__(self, batch: Batch) -> Batch:
        """The batch, changed: as many events in the same order, those taken out with the op
        REMOVED. All else of it (position, topic and offset, transactions, whether it is replayed)
        stays."""
        if not len(batch):
            return batch
        changed = batch
        for transform in self._transforms:
            changed = self._applied(transform, changed, batch, 0)
        return changed

    def _applied(self, transform: Transform[Any], batch: Batch, origin: Batch, at: int) -> Batch:
        """What ``transform`` makes of ``batch``, whose events are those of ``origin`` from ``at``
        on. If it fails, its halves are tried: the poison is found in few steps however many events
        there are, and only it is set aside."""
        made = _made_of(transform, batch)
        if isinstance(made, Batch):
            return made
        if transform.on_error == "stop" or self._waits(made):
            raise made
        if len(batch) == 1:
            if batch.ops[0] != Op.REMOVED:
                self._set_aside(origin.change(at), made)
            return removed(batch)
        middle = len(batch) // 2
        parts = []
        for half in cut(batch, (middle, len(batch))):
            parts.append(self._applied(transform, half, origin, at))
            at += len(half)
        return joined(batch, parts)


def _made_of(transform: Transform[Any], batch: Batch) -> Batch | EnsignError:
    """What a transform makes of a batch, or why it fails for an event of it."""
    try:
        plans = transform.plans(batch, _used(batch))
    except MisfitError as misfit:
        return misfit.fault
    try:
        return transform.apply(batch, plans)
    except Exception as error:  # noqa: BLE001 - code of the user's may be in it
        return _classified(transform, error)


def _used(batch: Batch) -> Callable[[int], bool]:
    """Whether a schema of the batch has an event that was not taken out."""
    if Op.REMOVED not in batch.ops:
        # A piece of a batch has the schemas of all of it.
        return frozenset(batch.schema_ids).__contains__
    removed_op = int(Op.REMOVED)
    pairs = zip(batch.ops, batch.schema_ids, strict=True)
    return {schema_id for op, schema_id in pairs if op != removed_op}.__contains__


def _classified(transform: Transform[Any], error: Exception) -> EnsignError:
    """The error for people; the text of another exception may hold a value."""
    if isinstance(error, EnsignError):
        return error
    return EnsignError(
        f"transform.{transform.name}_failed",
        f"A transform of the type {transform.name} failed. {unexpected(error).sentence}",
        "See why in the event, which `ensign dead-letters list` shows if it was set aside, and "
        "correct the transform.",
    )


def _made(config: AnyTransform) -> Transform[Any]:
    match config:
        case FilterConfig():
            return Filter(config)
        case SelectConfig() | DropConfig():
            return Picking(config)
        case RenameConfig():
            return Renaming(config)
        case MaskConfig() | HashConfig() | TruncateConfig():
            return Replacing(config)
        case RouteConfig():
            return Route(config)
        case OutboxConfig():
            return Outbox(config)
        case PythonConfig():
            return Function(config)
