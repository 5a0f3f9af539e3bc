"""One pass of compaction over a topic: what later events superseded is taken out of its frames,
which keep their offsets.

It reads the topic twice (which keys have changed, then what became of them), makes the latest event
of each key whole, and only then takes others out, from the topic's start on: a crash at any point
leaves a topic of the same state. A frame is rewritten from itself under a new session of its own
data key; values of unchanged columns come from frames under the same key only, so that nothing
outlives its key. Deletes and truncates go last.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ensign_core import frame
from ensign_core.broker.fold import Fold
from ensign_core.broker.keyed import Does, Effect, Keyed, Values, completed, known, without_new
from ensign_core.broker.vault import Vault, now_us
from ensign_core.change import Batch, Offset, Op
from ensign_core.crypto import KeyRing, Sealer
from ensign_core.engine import Stored, Topic
from ensign_core.engine.kept import Compacted
from ensign_core.errors import EnsignError

KEYS_MAX = 200_000
"""Keys that one pass deals with; the next pass goes on behind them."""

EVENTS_MAX = 4_000_000
"""Events that a pass takes out at most."""

CARRY_BYTES_MAX = 64 << 20
"""Values that are carried at a time from older images to newer ones; rows beyond it stay as they
are until the next change of them."""

FETCH_BYTES = 4 << 20
_VALUE_BYTES = 200
"""What a value takes in memory beside its bytes."""

Pause = Callable[[float], bool]
"""Called between frames with the seconds that the last one took; True means to stop."""


class StoppedError(Exception):
    """The pass was told to stop, or its topic changed under it. What was done so far is whole."""


class Pass:
    """One pass over a topic. Deletes before the offset ``seen`` have been kept long enough."""

    def __init__(self, vault: Vault, topic: Topic, seen: Offset, pause: Pause) -> None:
        self._vault = vault
        self._topic = topic
        self._seen = seen
        self._pause = pause
        self._keyed = Keyed()
        self._before = vault.engine.keeping.compacted(topic.topic_id)
        self._end = topic.next_offset
        self._delete: Offset | None = None
        self._data_keys: list[tuple[Offset, bytes]] = []
        self._sealers: dict[bytes, Sealer] = {}

    def run(self) -> int:
        """Do it; how many events were taken out. Raises StoppedError, and what reading raises."""
        wanted, truncated = self._look()
        fold = Fold(wanted, truncated)
        self._fold(fold)
        for run in self._merge(fold.runs(self._data_key)):
            fold.merged(run)
        fold.bury(self._seen)
        clean_to = max(self._before.clean_to, self._end)
        deletes = (self._delete, fold.first_delete(self._seen))
        removed = self._take_out(fold)
        first = min((offset for offset in deletes if offset is not None), default=None)
        self._vault.engine.keeping.set_compacted(
            self._topic.topic_id, Compacted(clean_to, first, now_us())
        )
        return removed

    def _look(self) -> tuple[set[bytes | None], dict[bytes, Offset]]:
        """The keys to deal with, and the last truncate of each table. Of what was compacted before
        those with deletes to bury, and those of changed keys that lack a value: of all others there
        is one event only."""
        wanted: set[bytes | None] = set()
        truncated: dict[bytes, Offset] = {}
        for _, batch in self._frames():
            dirty = batch.next_offset > self._before.clean_to
            if dirty and len(wanted) >= KEYS_MAX:
                self._end = batch.offset
                break
            for offset, effect in self._effects(batch):
                if effect.does is Does.TRUNCATE:
                    truncated[effect.table] = offset
                elif offset >= self._before.clean_to or self._unsettled(offset, effect):
                    wanted.update((effect.key, effect.old))
                elif effect.does is Does.DELETE and self._delete is None:
                    self._delete = offset
        wanted.discard(None)
        return wanted, truncated

    def _unsettled(self, offset: Offset, effect: Effect) -> bool:
        if effect.does is Does.DELETE:
            return offset < self._seen
        return effect.old is not None and effect.lacks

    def _fold(self, fold: Fold) -> None:
        for key_id, batch in self._frames():
            if len(fold) >= EVENTS_MAX:
                self._end = batch.offset
                break
            if not self._data_keys or self._data_keys[-1][1] != key_id:
                self._data_keys.append((batch.offset, key_id))
            for offset, effect in self._effects(batch):
                fold.take(offset, effect)

    def _data_key(self, offset: Offset) -> bytes:
        """The data key that an event lies under."""
        place = bisect_right(self._data_keys, offset, key=lambda entry: entry[0])
        return self._data_keys[place - 1][1]

    def _merge(self, runs: list[list[Offset]]) -> list[list[Offset]]:
        """Make the last event of each run whole; those runs of which that is done."""
        run_of = {offset: run for run in runs for offset in run}
        carried = _Carried()
        done: list[list[Offset]] = []
        for stored, own in self._touched(array("q", sorted(run_of))):
            batch = self._opened(stored)
            if batch is None:
                continue
            bodies: dict[int, bytes] = {}
            ended: list[list[Offset]] = []
            for offset in own:
                run, change = run_of[offset], batch.change(offset - batch.offset)
                older = carried.take(run[0])
                if offset == run[0]:
                    carried.put(run[0], known(change))
                elif older is not None and offset != run[-1]:
                    carried.put(run[0], older | known(change))
                elif older is not None:
                    bodies[change.index] = completed(change, older)
                    ended.append(run)
            if bodies:
                self._put(stored, batch, bytes(batch.ops), bodies)
            done += ended
        return done

    def _take_out(self, fold: Fold) -> int:
        """Take what is dead out of its frames, oldest first."""
        dead = array("q", sorted(fold.dead))
        turned = array("q", sorted(fold.turned))
        removed = 0
        for stored, own in self._touched(array("q", sorted((*dead, *turned)))):
            batch = self._opened(stored)
            if batch is None:
                continue
            ops = bytearray(batch.ops)
            bodies: dict[int, bytes] = {}
            for offset in own:
                index = offset - batch.offset
                if offset in fold.turned:
                    bodies[index] = without_new(batch.change(index))
                    ops[index] = Op.DELETE
                else:
                    bodies[index] = b""
                    ops[index] = Op.REMOVED
                    removed += 1
            self._put(stored, batch, bytes(ops), bodies, list(own))
        return removed

    def _put(
        self,
        stored: Stored,
        batch: Batch,
        ops: bytes,
        bodies: Mapping[int, bytes],
        gone: Sequence[Offset] = (),
    ) -> None:
        """Replace a frame by one with other ops and some other bodies, and without what is
        ``gone``."""
        engine = self._vault.engine
        removed = ops.count(Op.REMOVED)
        made, content = None, 0
        if removed < len(ops):
            packed = frame.pack(batch.edited(ops, bodies))
            made, content = self._seal(stored, packed), frame.content_bytes(packed)
        if not engine.keeping.replace(
            self._topic.topic_id, stored.sequence, made, removed, content, gone
        ):
            raise StoppedError

    def _seal(self, stored: Stored, packed: bytes) -> bytes:
        """A frame of what was in another. Its session has offsets as counters: as a sweep goes by
        rising offsets, readers see that frames keep their places."""
        header = frame.parse(stored.frame)[0]
        if header.key_id not in self._sealers:
            self._sealers[header.key_id] = self._vault.under_kek(
                lambda ring: self._sealer(ring, header.key_id)
            )
        sealer = self._sealers[header.key_id]
        sealer.reach(stored.offset)
        made = header._replace(session=sealer.session, counter=sealer.counter, in_order=True)
        clear = made.encode()
        return clear + sealer.seal(packed, clear)

    def _sealer(self, ring: KeyRing, key_id: bytes) -> Sealer:
        key = self._vault.engine.keys.key(key_id, ring.check)
        if key is None or key.state == "revoked":
            raise StoppedError
        return ring.frame_sealer(key)

    def _effects(self, batch: Batch) -> Iterator[tuple[Offset, Effect]]:
        for change in batch:
            effect = self._keyed.effect(change)
            if effect is not None:
                yield change.offset, effect

    def _stored(self) -> Iterator[Stored]:
        """The frames of the topic up to where this pass ends."""
        engine, topic_id = self._vault.engine, self._topic.topic_id
        first = engine.sequence_at(topic_id, 0)
        after = first - 1 if first is not None else 0
        while found := engine.frames([topic_id], after, FETCH_BYTES):
            for stored in found:
                began = time.monotonic()
                if stored.offset >= self._end:
                    return
                yield stored
                after = stored.sequence
                if self._pause(time.monotonic() - began):
                    raise StoppedError

    def _frames(self) -> Iterator[tuple[bytes, Batch]]:
        """The frames opened, with the ids of their data keys."""
        for stored in self._stored():
            batch = self._opened(stored)
            if batch is not None:
                yield frame.parse(stored.frame)[0].key_id, batch

    def _opened(self, stored: Stored) -> Batch | None:
        """A frame's batch; None if its key was destroyed: nobody sees what is in it."""
        try:
            return self._vault.open_frame(stored, self._topic.name)
        except EnsignError as error:
            if error.code != "key.revoked":
                raise
            return None

    def _touched(self, offsets: array[int]) -> Iterator[tuple[Stored, Iterable[Offset]]]:
        """The frames that hold some of these rising offsets, with those: one sweep."""
        self._sealers.clear()
        if not offsets:
            return
        for stored in self._stored():
            start = bisect_left(offsets, stored.offset)
            stop = bisect_left(offsets, stored.offset + stored.events)
            if start < stop:
                yield stored, offsets[start:stop]
            if stop == len(offsets):
                return


class _Carried:
    """Values on their way from older images of a row to a newer one, by the first of its run."""

    def __init__(self) -> None:
        self._values: dict[Offset, Values] = {}
        self._bytes = 0

    def take(self, first: Offset) -> Values | None:
        """What is carried for a run, which is over with it."""
        values = self._values.pop(first, None)
        self._bytes -= _size(values or {})
        return values

    def put(self, first: Offset, values: Values) -> None:
        """Carry values, unless there are too many: then the run stays as it is."""
        size = _size(values)
        if self._bytes + size <= CARRY_BYTES_MAX:
            self._values[first] = values
            self._bytes += size


def _size(values: Values) -> int:
    return sum(_VALUE_BYTES + len(value) for _, value in values.values())
