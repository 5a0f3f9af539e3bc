"""Every sink keeps the invariants of `ensign_core.plugin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import pytest

from ensign_core.change import Batch
from ensign_core.plugin import Sink
from tests.conformance.case import SinkCase
from tests.conformance.cases import SINKS
from tests.conformance.driver import make_sink, sample

BATCH = 10


class Subject:
    """A sink by the name of its case, which is made in the test, where standard output is its."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    @cached_property
    def case(self) -> SinkCase:
        return SINKS[self._name](self._folder)

    def sink(self) -> Sink:
        return make_sink(str(self.case.options["type"]), self.case.options)

    def offsets(self, topic: str) -> list[int]:
        return [offset for of, offset in self.case.delivered() if of == topic]


@pytest.fixture(params=sorted(SINKS))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(request.param, tmp_path)
    yield subject
    subject.case.close()


def first_times(found: list[int]) -> list[int]:
    """Without repeats, which a sink that is not exactly once may deliver."""
    return list(dict.fromkeys(found))


def test_what_is_flushed_is_there_in_order(subject: Subject) -> None:
    """I6, across topics and batches, even of a worker that does not come to its close."""
    sink = subject.sink()
    sink.open()
    for start in range(0, 3 * BATCH, BATCH):
        sink.write(sample("first", start, BATCH))
        sink.write(sample("second", start, BATCH))
    sink.flush()
    assert subject.offsets("first") == list(range(3 * BATCH))
    assert subject.offsets("second") == list(range(3 * BATCH))
    sink.close()


def test_an_offset_need_not_start_at_0(subject: Subject) -> None:
    with closing(subject.sink()) as sink:
        sink.open()
        sink.write(sample("first", 5000, BATCH))
        sink.flush()
    assert subject.offsets("first") == list(range(5000, 5000 + BATCH))


def test_what_is_replayed_arrives_and_moves_no_offset(subject: Subject) -> None:
    """I7: dead letters come again behind what came meanwhile; a topic may have nothing else."""
    with closing(subject.sink()) as sink:
        sink.open()
        sink.write(sample("first", 0, 2 * BATCH))
        sink.flush()
    for topic in ("first", "second"):
        again = sample(topic, 0, BATCH).part(3, 4)
        again.replayed = True
        with closing(subject.sink()) as sink:
            sink.open()
            sink.write(again)
            sink.flush()
    assert subject.offsets("first") == [*range(2 * BATCH), 3]
    assert subject.offsets("second") == [3]
    with closing(subject.sink()) as sink:
        known = sink.open()
    assert known is None or known == {"first": 2 * BATCH}


def test_nothing_to_do_is_no_trouble(subject: Subject) -> None:
    with closing(subject.sink()) as sink:
        sink.open()
        sink.flush()
        sink.write(Batch(topic="first", offset=0))
        sink.flush()
        sink.flush()
    assert subject.case.delivered() == []


def test_what_was_not_flushed_is_written_again(subject: Subject) -> None:
    """I6, I7: a worker dies between a write and its flush; its successor starts at the committed
    offset, or where the target says that it stands."""
    with closing(subject.sink()) as sink:
        sink.open()
        sink.write(sample("first", 0, BATCH))
        sink.flush()
        sink.write(sample("first", BATCH, BATCH))
    with closing(subject.sink()) as sink:
        known = sink.open()
        start = BATCH if known is None else known["first"]
        assert BATCH <= start <= 2 * BATCH
        if start < 2 * BATCH:
            sink.write(sample("first", BATCH, BATCH).part(start - BATCH, BATCH))
        sink.write(sample("first", 2 * BATCH, BATCH))
        sink.flush()
    found = subject.offsets("first")
    assert first_times(found) == list(range(3 * BATCH))
    assert known is None or len(found) == len(set(found))


def test_close_never_raises(subject: Subject) -> None:
    never_opened = subject.sink()
    never_opened.close()
    never_opened.close()
    sink = subject.sink()
    sink.open()
    sink.write(sample("first", 0, BATCH))
    sink.close()
    sink.close()
