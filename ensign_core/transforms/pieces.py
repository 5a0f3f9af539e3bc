"""Batches cut and put together again, with ordinals and offsets kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from ensign_core.change import Batch, Op, Run, Schema
from ensign_core.errors import EnsignError

SCHEMAS_MAX = 1 << 16
"""What an index of a schema in a batch (`Batch.schema_ids`) can count."""


def cut(batch: Batch, stops: Sequence[int]) -> Iterator[Batch]:
    """The batch in pieces that end at ``stops``, which rise to its length; `Batch.part` would look
    at all its runs for each."""
    start = place = 0
    runs = batch.runs
    for stop in stops:
        first, last = batch.ends[start - 1] if start else 0, batch.ends[stop - 1]
        piece = Batch(
            batch.ops[start:stop], batch.schema_ids[start:stop],
            array("I", (end - first for end in batch.ends[start:stop])), batch.body[first:last],
            schemas=batch.schemas, topic=batch.topic, offset=batch.offset + start,
            routes=batch.routes, replayed=batch.replayed,
        )  # fmt: skip
        while place < len(runs) and runs[place].start < stop:
            run = runs[place]
            shift = max(0, start - run.start)
            piece.runs.append(Run(run.start + shift - start, run.ordinal + shift, run.tx))
            place += 1
        if place and (place == len(runs) or runs[place].start > stop):
            # The run goes on in the next piece.
            place -= 1
        yield piece
        start = stop


def joined(batch: Batch, parts: Sequence[Batch]) -> Batch:
    """What became of the pieces of ``batch``, as one batch in its place."""
    known: dict[tuple[Schema, str], int] = {}
    ids = array("H")
    ends = array("I")
    at = 0
    for part in parts:
        routes = part.routes or [""] * len(part.schemas)
        own = [
            known.setdefault(pair, len(known)) for pair in zip(part.schemas, routes, strict=True)
        ]
        if len(known) > SCHEMAS_MAX:
            raise too_many_topics()
        ids.extend(map(own.__getitem__, part.schema_ids))
        ends.extend(end + at for end in part.ends)
        at += len(part.body)
    return replace(
        batch, ops=b"".join(part.ops for part in parts), schema_ids=ids, ends=ends,
        body=b"".join(part.body for part in parts), schemas=[schema for schema, _ in known],
        routes=routed([route for _, route in known]),
    )  # fmt: skip


def routed(routes: list[str]) -> list[str]:
    """As `Batch.routes` has it: none at all if none was chosen."""
    return routes if any(routes) else []


def removed(batch: Batch) -> Batch:
    """The one event of a batch taken out, its body with it."""
    return replace(batch, ops=bytes((Op.REMOVED,)), ends=array("I", (0,)), body=b"")


def events_by_schema(batch: Batch, wanted: Sequence[object]) -> dict[int, Sequence[int]]:
    """The indexes of the events of each schema for which something is ``wanted``."""
    if len(wanted) == 1:
        return {0: range(len(batch))} if wanted[0] is not None else {}
    found: dict[int, list[int]] = {i: [] for i, want in enumerate(wanted) if want is not None}
    if found:
        unwanted: list[int] = []
        places = [found.get(i, unwanted).append for i in range(len(wanted))]
        for index, schema_id in enumerate(batch.schema_ids):
            places[schema_id](index)
    return {schema_id: indexes for schema_id, indexes in found.items() if indexes}


def by_target(batch: Batch) -> list[Batch]:
    """A batch of a topic in pieces of one `Batch.target` each, in order, so that a sink which has
    taken some of them stands at an offset. Events that were taken out go with those before them."""
    if not any(batch.routes):
        return [batch]
    removed_op = int(Op.REMOVED)
    stops: list[int] = []
    last: str | None = None
    routes = batch.routes
    for index, (op, schema_id) in enumerate(zip(batch.ops, batch.schema_ids, strict=True)):
        if op != removed_op and routes[schema_id] != last:
            if last is not None:
                stops.append(index)
            last = routes[schema_id]
    pieces = []
    for piece in cut(batch, [*stops, len(batch)]):
        live = (i for op, i in zip(piece.ops, piece.schema_ids, strict=True) if op != removed_op)
        first = next(live, piece.schema_ids[0])
        pieces.append(_of_one_target(piece, first))
    return pieces


def _of_one_target(piece: Batch, schema_id: int) -> Batch:
    """A piece with the schemas that it uses: those of events taken out among them have its route,
    too."""
    used = list(dict.fromkeys(piece.schema_ids))
    own = {schema: place for place, schema in enumerate(used)}
    route = piece.routes[schema_id]
    piece.schema_ids = array("H", map(own.__getitem__, piece.schema_ids))
    piece.schemas = [piece.schemas[schema] for schema in used]
    piece.routes = routed([route] * len(used))
    return piece


def remaining(batch: Batch, topics: Sequence[str]) -> dict[str, Batch]:
    """What was not taken out of a source's batch, by topic; ``topics`` has one per schema."""
    if Op.REMOVED not in batch.ops:
        return batch.split(topics)
    out, removed_op = len(topics), int(Op.REMOVED)
    if out >= SCHEMAS_MAX:
        raise too_many_topics()
    pairs = zip(batch.ops, batch.schema_ids, strict=True)
    ids = array("H", (out if op == removed_op else schema_id for op, schema_id in pairs))
    marked = Batch(
        batch.ops, ids, batch.ends, batch.body, batch.runs, [*batch.schemas, *batch.schemas[:1]]
    )
    # No topic has an empty name.
    found = marked.split([*topics, ""])
    found.pop("", None)
    return found


def too_many_topics() -> EnsignError:
    return EnsignError(
        "transform.too_many_topics",
        f"The events of one batch would go to more than {SCHEMAS_MAX} topics.",
        "Route by a column with fewer values.",
    )


def bodies(batch: Batch) -> list[bytes]:
    """Each event's body."""
    return list(map(batch.body.__getitem__, map(slice, chain((0,), batch.ends), batch.ends)))
