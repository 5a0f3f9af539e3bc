"""Every source keeps the invariants of `ensign_core.plugin`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from connectors.registry import connector
from ensign_core.change import Batch
from ensign_core.errors import EnsignError
from ensign_core.plugin import Source
from ensign_core.run.retry import waits
from tests.conformance.case import SourceCase
from tests.conformance.cases import SOURCES
from tests.conformance.driver import READ_S, WAIT_S_MAX, check_batch, drain, events, make_source

CUTS_MAX = 12
"""Positions that are resumed from; evenly spread where there are more."""

SLACK_S = 5.0
"""What a loaded machine may add to a timeout. A source that ignores it blocks for longer."""


@pytest.fixture(params=sorted(SOURCES))
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, SourceCase]]:
    case = SOURCES[request.param](tmp_path)
    try:
        yield request.param, case
    finally:
        case.close()


def made(named: tuple[str, SourceCase], durable: Sequence[Batch] = ()) -> Source:
    name, case = named
    return make_source(name, case.options, durable)


@contextmanager
def opened(named: tuple[str, SourceCase], durable: Sequence[Batch] = ()) -> Iterator[Source]:
    """A source that is open behind batches that have been made durable. What the core waits out is
    waited out here too: a server may not have noticed yet that the one before is gone."""
    durable = [*getattr(named[1], "begun", ()), *durable]
    deadline_s = time.monotonic() + WAIT_S_MAX
    while True:
        with closing(made(named, durable)) as source:
            try:
                source.open(durable[-1].position if durable else None)
            except EnsignError as error:
                if not waits(error) or time.monotonic() > deadline_s:
                    raise
                continue
            yield source
            return


def test_batches_are_well_formed(named: tuple[str, SourceCase]) -> None:
    with opened(named) as source:
        batches = drain(source)
    assert len(events(batches)) >= 12
    assert len(batches) >= 3
    name, case = named
    found = connector("source", name)
    config = found.config.model_validate(case.options)
    for batch in batches:
        check_batch(batch)
        again = found.replay(config, batch)
        assert events([again]) == events([batch]), "a transform's dead letter is an event already"


def test_read_keeps_to_its_timeout(named: tuple[str, SourceCase]) -> None:
    """I2: also when there is nothing to read."""
    with opened(named) as source:
        drain(source)
        for timeout_s in (0.0, READ_S):
            started_s = time.monotonic()
            batch = source.read(timeout_s)
            assert time.monotonic() - started_s < timeout_s + SLACK_S
            assert batch is None or not len(batch)


def test_more_comes_to_an_open_source(named: tuple[str, SourceCase]) -> None:
    with opened(named) as source:
        before = len(events(drain(source)))
        if not named[1].more():
            assert before
            assert not events(drain(source))
            return
        deadline_s = time.monotonic() + SLACK_S
        more = drain(source)
        while not events(more) and time.monotonic() < deadline_s:
            more = drain(source)
        assert before
        assert events(more)


def test_resumes_after_every_batch(named: tuple[str, SourceCase]) -> None:
    """I3: each position yields exactly what came after it."""
    with opened(named) as source:
        batches = drain(source)
    cuts = range(0, len(batches), max(1, len(batches) // CUTS_MAX))
    for cut in {*cuts, len(batches) - 1}:
        with opened(named, batches[: cut + 1]) as source:
            assert events(drain(source)) == events(batches[cut + 1 :]), f"cut after batch {cut}"


def test_resumes_again_and_again(named: tuple[str, SourceCase]) -> None:
    """I3, I9: a worker that dies after every batch reads the same as one that lives."""
    with opened(named) as source:
        whole = events(drain(source))
    parts: list[Batch] = []
    for _ in range(1000):
        with opened(named, parts) as source:
            batch = source.read(READ_S)
            while batch is None and not source.caught_up():
                batch = source.read(READ_S)
            over = batch is None or (not len(batch) and source.caught_up())
        if batch is not None:
            parts.append(batch)
        if over:
            break
    assert events(parts) == whole


def test_ack_may_come_at_any_time(named: tuple[str, SourceCase]) -> None:
    """I4: repeated, between reads, before the first one, and late."""
    with opened(named) as source:
        first = source.read(READ_S)
        while first is None or first.position is None:
            first = source.read(READ_S)
        source.ack(first.position)
        source.ack(first.position)
        batches = [first, *drain(source)]
        last = batches[-1].position
        assert last is not None
        for batch in batches:
            assert batch.position is not None
            source.ack(batch.position)
        source.ack(last)
        source.ack(first.position)
    with opened(named, batches) as source:
        source.ack(last)
        assert not events(drain(source))
        source.ack(last)


def test_close_never_raises(named: tuple[str, SourceCase]) -> None:
    never_opened = made(named)
    never_opened.close()
    never_opened.close()
    source = made(named)
    source.open(None)
    source.read(READ_S)
    source.close()
    source.close()
