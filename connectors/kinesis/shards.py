"""The shards of a stream and their lineage: which may be read now, and which were read. Pure.

A split ends one shard and begins two; a merge ends two and begins one. Records of a key go on in
the child that has its hash, so a child is read only when its parents have been read to their end.
A parent that is not listed any more has been removed with all its records by retention, so there is
nothing in it to wait for; whether it had been read is told by the position, which names it if it
had not been read to its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from connectors.kinesis.client import Service

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import ShardTypeDef

LIST_MAX = 1000
"""Shards asked for in one call of ListShards (its default)."""


class Shard(NamedTuple):
    """A shard as it is listed. ``hashes`` are the first and the last hash of its range."""

    name: str
    parents: tuple[str, ...]
    hashes: tuple[int, int]
    closed: bool


def listed(service: Service, stream: str) -> dict[str, Shard]:
    """All shards that retention has not removed, by name, older ones first."""
    found: dict[str, Shard] = {}
    asked: dict[str, Any] = {"StreamName": stream}
    while True:
        page = service.call(
            "ListShards", stream, partial(service.raw.list_shards, MaxResults=LIST_MAX, **asked)
        )
        found |= {shard["ShardId"]: _shard(shard) for shard in page["Shards"]}
        token = page.get("NextToken")
        if not token:
            return dict(sorted(found.items()))
        asked = {"NextToken": token}


def _shard(shard: ShardTypeDef) -> Shard:
    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
    hashes = shard["HashKeyRange"]
    return Shard(
        shard["ShardId"],
        tuple(parent for parent in parents if parent),
        (int(hashes["StartingHashKey"]), int(hashes["EndingHashKey"])),
        "EndingSequenceNumber" in shard["SequenceNumberRange"],
    )


def leaves(shards: Mapping[str, Shard]) -> list[str]:
    """The shards that are open."""
    return [name for name, shard in shards.items() if not shard.closed]


def ancestors(shards: Mapping[str, Shard], names: Iterable[str]) -> set[str]:
    """All ancestors of ``names`` that are listed."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        shard = shards.get(pending.pop())
        fresh = [p for p in shard.parents if p in shards and p not in found] if shard else []
        found.update(fresh)
        pending += fresh
    return found


def startable(
    shards: Mapping[str, Shard], begun: Collection[str], ended: Collection[str]
) -> tuple[list[str], list[str]]:
    """Of the shards that are neither begun nor ended nor were read before: those that may begin
    now, and those that have to wait for a parent."""
    read = ancestors(shards, (*begun, *ended)) - set(begun)
    new = [name for name in shards if name not in read and name not in begun and name not in ended]
    unread = {*begun, *new}
    ready = [name for name in new if not unread.intersection(shards[name].parents)]
    return ready, [name for name in new if name not in set(ready)]


def spent(shards: Mapping[str, Shard], begun: Collection[str], ended: Iterable[str]) -> list[str]:
    """Those ended shards that need not be remembered any more: they have children, and each has
    been begun or read; or they are not listed any more."""
    ended = list(ended)
    covered = {*begun, *ended, *ancestors(shards, (*begun, *ended))}
    found = []
    for name in ended:
        children = [child.name for child in shards.values() if name in child.parents]
        if name not in shards or (children and covered.issuperset(children)):
            found.append(name)
    return found
