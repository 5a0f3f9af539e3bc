"""The lineage of shards: what may be read, and what need not be remembered."""

from __future__ import annotations

import pytest

from connectors.kinesis.position import Place, Standing, decode
from connectors.kinesis.shards import Shard, ancestors, leaves, spent, startable
from ensign_core.change import Position
from ensign_core.errors import EnsignError


def lineage(**parents: str) -> dict[str, Shard]:
    """Shards by their names with the names of their parents; those with children are closed."""
    closed = set("".join(parents.values()))
    return {n: Shard(n, tuple(p), (0, 1), n in closed) for n, p in parents.items()}


# a splits into c and d; d and b merge into e, which splits into f and g.
SHARDS = lineage(a="", b="", c="a", d="a", e="db", f="e", g="e")


def test_at_first_the_oldest_are_read() -> None:
    assert startable(SHARDS, [], []) == (["a", "b"], ["c", "d", "e", "f", "g"])
    assert leaves(SHARDS) == ["c", "f", "g"]


def test_children_wait_for_all_parents() -> None:
    assert startable(SHARDS, ["b"], ["a"]) == (["c", "d"], ["e", "f", "g"])
    assert startable(SHARDS, ["b", "c"], ["d"]) == ([], ["e", "f", "g"])
    assert startable(SHARDS, ["c"], ["d", "b"]) == (["e"], ["f", "g"])


def test_ancestors_of_what_was_begun_were_read() -> None:
    """Their names are not in the position any more."""
    assert startable(SHARDS, ["c", "f", "g"], []) == ([], [])
    assert startable(SHARDS, ["c"], ["e"]) == (["f", "g"], [])
    assert ancestors(SHARDS, ["f"]) == {"e", "d", "b", "a"}


def test_parents_that_retention_removed_are_not_waited_for() -> None:
    left = {name: SHARDS[name] for name in "cefg"}
    assert startable(left, [], []) == (["c", "e"], ["f", "g"])


def test_ended_shards_are_remembered_until_their_children_have_begun() -> None:
    assert spent(SHARDS, ["c", "d"], ["a"]) == ["a"]
    assert spent(SHARDS, ["c", "b"], ["d"]) == []
    assert spent(SHARDS, ["c", "e"], ["d", "b"]) == ["d", "b"]
    assert spent(SHARDS, ["c", "f", "g"], ["d", "b"]) == ["d", "b"]
    assert spent(SHARDS, [], ["f"]) == []
    assert spent(SHARDS, [], ["gone"]) == ["gone"]


def test_a_position_is_what_it_was() -> None:
    places = {"a": Place("1" * 56, 7, 5, 6), "b": Place(through_ms=3), "c": Place()}
    standing = Standing("orders", 1, None, places, {"d": 4, "e": None})
    assert decode(standing.encode()) == standing


@pytest.mark.parametrize("position", [b"", b"0/16B3748", b"{}", b"[]", b'{"places": 1}'])
def test_the_position_of_another_source_is_refused(position: bytes) -> None:
    with pytest.raises(EnsignError) as caught:
        decode(Position(position))
    assert caught.value.code == "kinesis.position_malformed"
