"""GTID sets against sets of Python's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.mysql.gtids import GtidSet

SIDS = [f"{i}f836ca3-e87d-11f1-b469-02fc00000001" for i in range(2)]
GTIDS = st.tuples(st.sampled_from(SIDS), st.sampled_from(["", "a", "_b1"]), st.integers(1, 12))
Gtid = tuple[str, str, int]


def made(gtids: list[Gtid]) -> GtidSet:
    found = GtidSet()
    for gtid in gtids:
        found.add(*gtid)
    return found


def members(found: GtidSet) -> set[Gtid]:
    return {(*source, n) for source, first, end in found.intervals() for n in range(first, end)}


@given(st.lists(GTIDS))
def test_adding(gtids: list[Gtid]) -> None:
    found = made(gtids)
    assert members(found) == set(gtids)
    assert bool(found) == bool(gtids)
    # Intervals never touch: what is equal has one form only.
    assert found == made(sorted(gtids)) == made(sorted(gtids, reverse=True))
    assert GtidSet.parse(str(found)) == found
    assert GtidSet.decode(found.encode()) == found


@given(st.lists(GTIDS), GTIDS)
def test_asking_for_one(gtids: list[Gtid], one: Gtid) -> None:
    assert made(gtids).has(*one) == (one in gtids)


@given(st.lists(GTIDS), st.lists(GTIDS))
def test_two_sets(one: list[Gtid], other: list[Gtid]) -> None:
    a, b = made(one), made(other)
    assert a.contains(b) == (set(one) >= set(other))
    assert members(a.minus(b)) == set(one) - set(other)
    assert a.minus(b) == made(sorted(set(one) - set(other)))
    a.add_all(b)
    assert a == made(one + other)


@given(st.lists(st.tuples(GTIDS, st.integers(0, 8))))
def test_intervals(intervals: list[tuple[Gtid, int]]) -> None:
    found, plain = GtidSet(), set()
    for (sid, tag, first), size in intervals:
        found.add_interval(sid, tag, first, first + size)
        plain |= {(sid, tag, n) for n in range(first, first + size)}
    assert members(found) == plain
    assert found == made(sorted(plain))
