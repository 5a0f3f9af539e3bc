"""``python -m tests.oracle mysql``: the row decoder against mysql-replication's, on random images.

Each value of each image must be the same, or differ in a way that `mysql_differences` explains.
"""

from __future__ import annotations

import os
import time
import warnings
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random

from connectors.mysql import gathered, rowimage
from ensign_core.change import BINARY, NULL, TEXT, UNCHANGED, image_end
from ensign_core.rows import split
from tests.oracle.mysql_decoder import decoder, row
from tests.oracle.mysql_differences import DIFFERENCES, WRONG, Check, check_of
from tests.property.mysql_images import SHARED, Images, images

ROWS = 80
"""Of one table; then comes another."""
COLUMNS_MAX = 6
SLICE = 200_000
"""Images that a process takes at a time."""


class DifferenceError(Exception):
    """A value that differs without a reason. The tests' values are nobody's secret."""


def compare(found: Images) -> Counter[str]:
    """How often each difference was met in an event; `DifferenceError` for another."""
    met: Counter[str] = Counter()
    into = gathered.Gathered()
    rows = rowimage.RowDecoder(found.columns, found.key).rows(found.event, 0, found.kind, into)
    if rows != found.rows:
        raise DifferenceError(f"{rows} rows of {found.rows}")
    event = decoder(found)
    checks = [check_of(column) for column in found.columns]
    names = [column.name for column in found.columns]
    for body in into.bodies():
        ours = [body[1:]]
        if len(found.there) > 1:
            end = image_end(body, 1)
            ours = [body[1:end], body[end + 1 :]]
        for image, (theirs, there) in enumerate(zip(row(event), found.there, strict=True)):
            kinds, values = split(ours[image])
            # In a new image the key's columns are there in any case.
            skipped = found.key if image or found.kind == rowimage.DELETE else ()
            for i, name in enumerate(names):
                if i not in there and i in skipped:
                    continue
                different = _different(theirs[name], kinds[i], values[i], checks[i])
                if different == WRONG:
                    raise DifferenceError(f"{found.columns[i]}: {theirs[name]!r}, {values[i]!r}")
                if different:
                    met[different] += 1
    return met


def _different(theirs: object, kind: int, value: bytes, check: Check) -> str:
    if kind in (NULL, UNCHANGED):
        return WRONG if theirs is not None else "null or absent"
    if kind not in (TEXT, BINARY):
        return WRONG
    return check(theirs, value)


def part(seed: int, count: int) -> tuple[int, Counter[str]]:
    """Compare at least ``count`` images; how many they were, and the differences."""
    warnings.simplefilter("ignore", DeprecationWarning)
    rng = Random(seed)
    done, met = 0, Counter[str]()
    while done < count:
        found = images(rng, SHARED, min(ROWS, count - done), COLUMNS_MAX)
        met += compare(found)
        done += found.count
    return done, met


def main(arguments: list[str]) -> int:
    parser = ArgumentParser(prog="python -m tests.oracle mysql")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    seed = Random().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    sizes = [SLICE] * (given.images // SLICE) + [given.images % SLICE] * (given.images % SLICE > 0)
    done, met = 0, Counter[str]()
    with ProcessPoolExecutor(min(given.processes, os.cpu_count() or 1)) as pool:
        seeds = (seed + number for number in range(len(sizes)))
        for count, found in pool.map(part, seeds, sizes):
            done += count
            met += found
    for name, sentence in DIFFERENCES.items():
        print(f"{met[name]:>12,}  {name}: {sentence}")
    print(f"{done:,} images, no other difference, in {time.monotonic() - began:.0f} s")
    return 0
