"""``python -m tests.bench transforms``: what each transform costs per row.

Rows have the ten columns of the other measurements' table. The clock is the CPU time of the
process; ``split by topic``, which a pipeline does to what is not all of one topic, is beside them.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ensign_core.change import Batch
from ensign_core.rows import decode
from ensign_core.transforms import Chain, by_target, remaining
from tests.bench.json import BATCH_ROWS, SCHEMA, batch_of, copied
from tests.bench.measured import Run, per_row, timed
from tests.transforms import Letters, config

FILTERS: dict[str, str] = {
    "filter: an integer": "number < 500",
    "filter: a number and a text": "price > 10.5 AND code <> 'code7'",
    "filter: LIKE": "title LIKE '%99%'",
    "filter: a time stamp": "placed >= '2026-11-23 12:00'",
}
HASH = {"type": "hash", "columns": ["title"], "key": "a key of enough characters"}
TRANSFORMS: dict[str, Mapping[str, Any]] = {
    "rename a column": {"type": "rename", "columns": {"title": "name"}},
    "drop a column": {"type": "drop", "columns": ["detail"]},
    "select three of ten": {"type": "select", "columns": ["id", "title", "price"]},
    "mask a column": {"type": "mask", "columns": ["title"]},
    "truncate a column": {"type": "truncate", "columns": ["title"], "characters_max": 8},
    "hash a column": HASH,
    **{name: {"type": "filter", "where": where} for name, where in FILTERS.items()},
    "route by a value": {"type": "route", "topic": "t.{column:paid}"},
    "python: nothing": {"type": "python", "function": f"{__name__}:nothing"},
    "python: each row decoded": {"type": "python", "function": f"{__name__}:looking"},
}


def nothing(batch: Batch) -> Batch:
    """The least that a function of one's own can do."""
    return batch


def looking(batch: Batch) -> Batch:
    """What it costs to look at each row by itself."""
    for change in batch:
        _, new, _ = change.images()
        decode(new or b"")
    return batch


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m tests.bench transforms")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10 * BATCH_ROWS)
    options = parser.parse_args(arguments)
    batches = [
        batch_of([copied(n) for n in range(first, min(first + BATCH_ROWS, options.rows))])
        for first in range(0, options.rows, BATCH_ROWS)
    ]
    works: dict[str, Callable[[], object]] = {}
    for name, one in TRANSFORMS.items():
        chain = Chain([config(**one)], Letters())
        works[name] = partial(lambda chain: [len(chain(batch)) for batch in batches], chain)
    halves = [Chain([config(type="filter", where="paid")], Letters())(one) for one in batches]
    routed = [
        Chain([config(type="route", topic="t.{column:number}")], Letters())(one) for one in batches
    ]
    works["split by topic"] = lambda: [len(remaining(one, [SCHEMA.name])) for one in halves]
    works["a target for each row"] = lambda: [len(by_target(one)) for one in routed]
    found: dict[str, list[Run]] = {name: [] for name in works}
    for _ in range(options.times):
        for name, work in works.items():
            found[name].append(timed(options.rows, work))
    print(f"{options.rows:,} rows of 10 columns, {options.times} times each, alternating")
    for name, runs in found.items():
        print(per_row(name, runs))
