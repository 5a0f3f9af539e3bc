"""The generator: the same events from everywhere, and a life for each key."""

from __future__ import annotations

import time

import pytest

from connectors.generator.config import GeneratorConfig
from connectors.generator.source import GeneratorSource
from connectors.generator.table import SCHEMA
from ensign_core.change import Batch, Op, Position
from ensign_core.rows import ABSENT, named
from tests.conformance.driver import RecordingContext, drain, events


def opened(resume: Position | None = None, **options: object) -> GeneratorSource:
    config = GeneratorConfig.model_validate({"type": "generator", **options})
    source = GeneratorSource(config, RecordingContext())
    source.open(resume)
    return source


def test_the_seed_decides() -> None:
    one, same, other = (events(drain(opened(seed=seed, count=200, keys=10))) for seed in (1, 1, 2))
    assert one == same
    assert [e.body for e in one] != [e.body for e in other]


def test_resumes_inside_a_transaction() -> None:
    whole = events(drain(opened(count=30, keys=5, transaction_events=10)))
    for cut in range(31):
        position = Position(cut.to_bytes(8, "big"))
        assert (
            events(drain(opened(position, count=30, keys=5, transaction_events=10)))
            == (whole[cut:])
        )


def test_every_key_lives_from_insert_to_delete() -> None:
    alive: dict[object, bool] = {}
    seen: set[Op] = set()
    for batch in drain(opened(count=2000, keys=20, payload_bytes=100)):
        for change in batch:
            old, new, key_only = change.images()
            row = named(SCHEMA.columns, new or old or b"")
            assert alive.get(row["id"], False) == (change.op is not Op.INSERT)
            alive[row["id"]] = change.op is not Op.DELETE
            seen.add(change.op)
            if change.op is Op.INSERT:
                assert len(str(row["payload"])) == 100
            elif change.op is Op.UPDATE:
                assert row["payload"] is ABSENT
            else:
                assert key_only
    assert seen == {Op.INSERT, Op.UPDATE, Op.DELETE}
    assert len(alive) == 20


def test_transactions_have_their_size() -> None:
    (batch,) = drain(opened(count=25, transaction_events=10, batch_events_max=100))
    assert [(run.start, run.ordinal) for run in batch.runs] == [(0, 0), (10, 0), (20, 0)]


def test_the_rate_holds_events_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own, which moves when the source sleeps."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(time, "sleep", lambda s: now_s.__setitem__(0, now_s[0] + s))
    source = opened(rate=10)
    batches: list[Batch | None] = []
    while now_s[0] < 10:
        batches.append(source.read(1.0))
    count = sum(len(batch) for batch in batches if batch)
    assert 99 <= count <= 101
    assert source.read(0.0) is None


def test_an_endless_one_is_caught_up_once_it_has_begun() -> None:
    source = opened()
    assert not source.caught_up()
    assert source.read(0.0)
    assert source.caught_up()
