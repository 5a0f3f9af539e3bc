"""Which events of a topic are superseded by later ones: compaction's bookkeeping, by offsets. Pure.

A row's *chain* is what its present values come from: its latest change and, where that left columns
unchanged, the changes before it down to a whole image. What is behind no chain is dead.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise

from ensign_core.broker.keyed import Does, Effect
from ensign_core.change import Offset


class Fold:
    """Takes the effects of a topic's changes in their order, from its start on. Only keys that are
    ``wanted`` are followed; ``truncated`` has the last truncate by table."""

    def __init__(self, wanted: Set[bytes | None], truncated: Mapping[bytes, Offset]) -> None:
        self._wanted = wanted
        self._truncated = truncated
        self._chains: dict[bytes, list[Offset]] = {}
        self._gone: dict[bytes, Offset] = {}
        self._changers: dict[Offset, bytes] = {}
        self._truncates: list[Offset] = []
        self._parts: defaultdict[bytes, list[Offset]] = defaultdict(list)
        self._claims: dict[Offset, bytes] = {}
        self._chained = 0
        self.dead = array("q")
        """Events that are to be taken out."""
        self.turned: set[Offset] = set()
        """Superseded changes of a key, of which is left that the old key is gone: deletes."""

    def __len__(self) -> int:
        """How many events are remembered."""
        return len(self.dead) + self._chained

    def take(self, offset: Offset, effect: Effect) -> None:
        if offset < self._truncated.get(effect.table, offset):
            self.dead.append(offset)
            return
        if effect.run is not None and effect.does is Does.PART:
            self._parts[effect.run].append(offset)
        elif effect.run is not None:
            self._claims[offset] = effect.run
        if effect.does is Does.TRUNCATE:
            self._truncates.append(offset)
        elif effect.key is not None and not self._wanted.isdisjoint((effect.key, effect.old)):
            if effect.does is Does.DELETE:
                self._delete(effect.key, offset)
            else:
                self._set(effect.key, effect, offset)

    def _set(self, key: bytes, effect: Effect, offset: Offset) -> None:
        self._forget_delete(key)
        chain = self._chains.pop(key, [])
        if effect.old is not None:
            self._supersede(chain)
            self._forget_delete(effect.old)
            chain = self._chains.pop(effect.old, [])
            self._changers[offset] = effect.old
            self._gone[effect.old] = offset
        if not effect.lacks:
            self._supersede(chain)
            chain = []
        chain.append(offset)
        self._chained += 1
        self._chains[key] = chain

    def _delete(self, key: bytes, offset: Offset) -> None:
        self._supersede(self._chains.pop(key, []))
        self._forget_delete(key)
        self._gone[key] = offset

    def _supersede(self, chain: Sequence[Offset]) -> None:
        self._chained -= len(chain)
        for offset in chain:
            old = self._changers.pop(offset, None)
            if old is not None and self._gone.get(old) == offset:
                self.turned.add(offset)
            else:
                self.dead.append(offset)

    def _forget_delete(self, key: bytes) -> None:
        """The key is set or deleted again: what deleted it before says nothing any more, unless it
        is a change that still is the latest of another key."""
        offset = self._gone.pop(key, None)
        if offset is not None and offset not in self._changers:
            self.turned.discard(offset)
            self.dead.append(offset)

    def runs(self, key_of: Callable[[Offset], object]) -> list[list[Offset]]:
        """The parts of chains that are under one data key and can become one event: their last."""
        found: list[list[Offset]] = []
        for chain in self._chains.values():
            if len(chain) > 1:
                found += self._split(chain, key_of)
        return [run for run in found if len(run) > 1]

    def _split(
        self, chain: Sequence[Offset], key_of: Callable[[Offset], object]
    ) -> list[list[Offset]]:
        parts = [[chain[0]]]
        for before, offset in pairwise(chain):
            # A changed key stays between what is left under the old key and the row of the new one.
            linking = len(parts) > 1 and before in self._changers
            if linking or key_of(before) != key_of(offset):
                parts.append([])
            parts[-1].append(offset)
        return parts

    def merged(self, run: Sequence[Offset]) -> None:
        """The last event of a run has all that the others knew: they are superseded."""
        self._supersede(run[:-1])

    def bury(self, before: Offset) -> None:
        """Deletes and truncates before this offset have been seen long enough. Called last: of
        large events that are dead, the parts are too."""
        for offset in (*self._gone.values(), *self._truncates):
            if offset < before and offset not in self._changers:
                self.turned.discard(offset)
                self.dead.append(offset)
        claimed = set(self._claims.values())
        for offset in self.dead:
            self._claims.pop(offset, None)
        for run in claimed.difference(self._claims.values()):
            self.dead.extend(self._parts[run])

    def first_delete(self, since: Offset) -> Offset | None:
        """The first delete or truncate from an offset on that is left."""
        deletes = (*self._gone.values(), *self._truncates)
        return min(
            (offset for offset in deletes if offset >= since and offset not in self._changers),
            default=None,
        )
