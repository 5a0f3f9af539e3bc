"""What an engine is: it stores sealed frames, topics, positions, group offsets and wrapped keys.

An engine sees bytes only. It never holds a key that opens them, and every method may be called from
any thread and process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from ensign_core.change import Offset, Stage
from ensign_core.crypto import DataKey
from ensign_core.engine.claims import Claims, Publishing
from ensign_core.engine.inspected import Inspection
from ensign_core.engine.kept import Keeping
from ensign_core.engine.work import Deliveries, Finished

Sealed = bytes


@dataclass(frozen=True)
class Topic:
    """A topic as it is stored. ``topic_id`` is a ULID's 16 bytes, ``bytes`` what its frames take on
    disk, ``content_bytes`` what they did before they were compressed, ``first_offset`` that of the
    oldest event kept, ``duplicates`` how many events were refused as such, ``policy`` sealed."""

    topic_id: bytes
    name: str
    state: Literal["ready", "archived"]
    events: int
    bytes: int
    first_offset: Offset
    next_offset: Offset
    content_bytes: int
    duplicates: int
    policy: Sealed | None


@dataclass(frozen=True)
class Write:
    """One frame to append: header and sealed body, with its last commit time in µs, and the size of
    its body before that was compressed."""

    topic_id: bytes
    topic: str
    key_id: bytes
    events: int
    last_us: int
    frame: bytes
    content_bytes: int = 0


@dataclass(frozen=True)
class Stored:
    """One frame as it was appended. ``sequence`` rises over all topics in append order."""

    sequence: int
    topic_id: bytes
    offset: Offset
    events: int
    frame: bytes
    key_id: bytes
    superseded: int = 0
    """How many events of its topic are superseded."""


@dataclass(frozen=True)
class Epoch:
    """A pipeline's claim to append, taken at its start. A later claim makes it void."""

    pipeline: str
    number: int


class Replay(NamedTuple):
    """A dead letter that was to be replayed: whether it still is to be, how often that failed, and
    the sealed error of the last time."""

    asked: bool
    attempts: int
    error: bytes | None


Replayed = tuple[bytes, Sequence[Offset]]
"""Dead letters that an append replays: their topic's id and their offsets."""


@dataclass(frozen=True)
class Consumed:
    """A group's step by what an append is made of: for each topic's id the offset where the group
    must stand for that (None: nowhere yet), and the one where it stands then."""

    group: str
    steps: Mapping[bytes, tuple[Offset | None, Offset]]


@dataclass(frozen=True)
class Beside:
    """What an append commits beside its frames, all or nothing with them."""

    replayed: Replayed | None = None
    """Dead letters that are done with then."""

    consumed: Consumed | None = None
    """What was read for the append: ``group.moved`` if the group stands elsewhere by then."""

    finished: Finished | None = None
    """Deliveries that are done with then: ``delivery.expired`` if a lease was lost by then."""
    claims: Sequence[Claims] = ()
    """What published events are known by; raises ClaimedError if it does not hold any more."""


class StaleWriteError(Exception):
    """An append was sealed for a topic or under a key that is no longer current (made at the same
    time by another process, rotated, revoked). Nothing was written: look again and seal anew."""


class StaleKekError(Exception):
    """Data keys are wrapped under another KEK than that of the given check, since it was rotated.
    Nothing was written: get the KEK anew and wrap or unwrap again."""


class Bell(Protocol):
    """Rings when something was appended, by this process or another."""

    def wait(self, timeout_s: float) -> bool:
        """Return at once if something was appended since the last wait began, else when it is, or
        after ``timeout_s``; whether it rang."""

    def wake(self) -> None:
        """Make a wait in another thread return."""

    def close(self) -> None: ...


class Pipelines(Protocol):
    """What an engine keeps of pipelines."""

    def claim(self, pipeline: str) -> Epoch:
        """Take the pipeline: earlier claims are void, and so is what they held."""

    def position(self, pipeline: str) -> bytes | None: ...

    def kept(self, pipeline: str) -> dict[str, bytes]:
        """The pieces that the source keeps beside its position, by name."""

    def topics(self, pipeline: str) -> dict[bytes, str]:
        """The topics that a pipeline has appended to or was given: names by id."""

    def give_topics(self, pipeline: str, topic_ids: Sequence[bytes]) -> None:
        """Make these topics, and no others, those of a pipeline that appends to none."""

    def give_groups(self, pipeline: str, groups: Sequence[str]) -> None:
        """Make these the groups of a pipeline's sinks. They hold back trimming from when they are
        given, not from when they first commit."""

    def add_signal(self, pipeline: str, signal: bytes) -> int:
        """Keep a request to a pipeline's source; its number, which rises and is never given
        twice."""

    def signals(self, pipeline: str) -> list[tuple[int, bytes]]:
        """Requests by rising number."""

    def forget_signals(self, pipeline: str, upto: int) -> None:
        """Remove requests with numbers up to ``upto``."""

    def set_status(self, pipeline: str, status: bytes) -> None: ...

    def statuses(self) -> dict[str, bytes]: ...

    def hold(self, pipeline: str) -> Callable[[], None]:
        """Mark a pipeline as running until the returned function is called or this process ends.
        Raises ``pipeline.running`` if another worker has it."""

    def held(self, pipeline: str) -> bool:
        """Whether a living worker runs the pipeline."""

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline's position with what is kept beside it, its status, signals, held
        frames and requests to replay; its topics stay."""


class Groups(Protocol):
    """Where groups stand: next offsets by topic id."""

    def commit(self, group: str, offsets: Mapping[bytes, Offset]) -> None:
        """Remember a group's next offsets, by topic id; ``group.shared`` if members share it."""

    def offsets(self) -> dict[str, dict[bytes, Offset]]: ...

    def remove(self, group: str) -> None:
        """Forget a group: it begins anew if it comes again, and holds nothing back."""


class Keys(Protocol):
    """Wrapped data keys, and the check of the KEK that they all are wrapped under, which is empty
    before `begin`. Whatever takes a ``check`` raises StaleKekError if that is not the stored one at
    the same moment."""

    def check(self) -> bytes:
        """The check that is stored."""

    def begin(self, check: bytes) -> None:
        """Store the first check; one that is there stays."""

    def stored(
        self, topic_ids: Sequence[bytes] | None = None, check: bytes | None = None
    ) -> list[DataKey]:
        """The keys of these topics, or all, oldest first; to unwrap them with a ``check``."""

    def key(self, key_id: bytes, check: bytes | None = None) -> DataKey | None:
        """One key, whichever topic it is of; to unwrap it with a ``check``."""

    def add(self, keys: Sequence[DataKey], check: bytes = b"") -> list[DataKey]:
        """Keep the first key of each topic; returns the active ones, which may be another's."""

    def rotate(self, keys: Sequence[DataKey], check: bytes = b"") -> list[DataKey]:
        """Let these be the active keys of their topics, whose present ones are retired: they open
        what they sealed, and seal no more. Returns those of topics that had an active key; others
        get one when they are written to, and so do client-sealed ones, whose keys writers make."""

    def rewrap(self, wrap: Callable[[DataKey], DataKey], check: bytes, to: bytes) -> bool:
        """Replace all keys by what ``wrap`` makes of them, and the check by ``to``; nothing if it
        is that already. Whether it did. Afterwards no key is left as it was wrapped before."""

    def revoke(self, key_id: bytes) -> None:
        """Destroy a key: no byte of it is left in the files afterwards, it seals no more, and what
        is held under it is void. Once more changes nothing, but completes one that was broken
        off."""

    def revocations(self) -> int:
        """How often `revoke` was called: a number that others compare to learn of it."""

    def frames(self) -> dict[bytes, int]:
        """How many frames there are of each key that has any."""

    def ranges(self, key_id: bytes) -> list[tuple[Offset, Offset]]:
        """The offsets of the events under a key, as ranges from a first one to behind a last."""


class Grant(NamedTuple):
    """What a reader may do: read the topic if ``granted``, else no more. ``created`` is in µs;
    without a public key nobody can seal for the reader."""

    topic_id: bytes
    reader: str
    public_key: str | None
    created: int
    granted: bool


class Grants(Protocol):
    """Who may read which topics, and the data keys that are sealed for readers."""

    def of(self, topic_ids: Iterable[bytes]) -> list[Grant]:
        """Those of these topics, taken away ones too, by reader."""

    def public_key(self, reader: str) -> str | None:
        """The public key that is known of a reader."""

    def add(self, grant: Grant, boxes: Mapping[bytes, bytes], giver: str | None = None) -> bool:
        """Let a reader read, with the public key given if it is not None; whether that is new. Then
        a topic's active client-sealed keys are retired, so the next one is sealed for the reader
        too. ``boxes`` are past keys by id, sealed for the reader. Raises
        StaleWriteError unless these are all that the reader with the public key ``giver`` has, and
        ``reader.key_taken`` and ``reader.key_differs``."""

    def remove(self, topic_id: bytes, reader: str) -> bool:
        """Let a reader read no more: what was sealed for the reader is destroyed, which counts as
        one of `Keys.revocations`, and the topic's active client-sealed keys are retired. Whether
        there was such a grant."""

    def add_key(self, key: DataKey, boxes: Mapping[str, bytes]) -> None:
        """Keep a client-sealed key, sealed for each public key. Raises StaleWriteError unless these
        are those of all that may read the topic."""

    def boxes(
        self, public_key: str, topic_id: bytes, key_id: bytes | None = None
    ) -> dict[bytes, bytes]:
        """The keys of a topic, or the one of them, that are sealed for a reader, by id."""

    def readable_from(self, public_key: str, topic_id: bytes, offset: Offset) -> Offset:
        """Where behind ``offset`` the first frame begins whose key is sealed for a reader; the
        topic's end if none is."""


class Letters(Protocol):
    """What becomes of dead letters; their topics only grow."""

    def drop(self, topic_id: bytes, offsets: Iterable[Offset]) -> None:
        """Remember that these events of a topic of dead letters are done with."""

    def dropped(self, topic_id: bytes) -> set[Offset]:
        """What `drop` and `Engine.append` said is done with."""

    def ask(self, topic_id: bytes, pipeline: str, part: str, offsets: Iterable[Offset]) -> None:
        """Ask a part of a pipeline to replay dead letters; those done with are left out."""

    def asked(self, topic_id: bytes, part: str, count_max: int) -> list[Offset]:
        """The first dead letters that a part is asked to replay, by rising offset."""

    def fail(self, topic_id: bytes, errors: Mapping[Offset, bytes]) -> None:
        """Replaying these failed, with a sealed error each: it is not asked for any more."""

    def replays(self, topic_id: bytes, first: Offset, last: Offset) -> dict[Offset, Replay]:
        """What is known of dead letters between two offsets that were to be replayed."""


class Engine(Protocol):
    """Where frames live. Each method is atomic and durable when it returns."""

    pipelines: Pipelines
    groups: Groups
    keys: Keys
    grants: Grants
    letters: Letters
    deliveries: Deliveries
    publishing: Publishing
    inspection: Inspection
    keeping: Keeping

    def meta(self) -> Mapping[str, bytes]: ...

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """Keep what is not there yet; never overwrites."""

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        """Those of the names that there are, or all, by name."""

    def topic_ids(self, names: Sequence[str]) -> dict[str, bytes]:
        """The ids of those topics that there are."""

    def create_topic(self, topic_id: bytes, name: str, policy: bytes | None = None) -> None:
        """Make an empty topic; a name that exists stays as it is."""

    def set_policy(self, topic_id: bytes, policy: bytes) -> None:
        """Replace a topic's sealed policy."""

    def set_state(self, topic_id: bytes, state: Literal["ready", "archived"]) -> None:
        """Let a topic take no more events, or take them again."""

    def append(
        self,
        writes: Sequence[Write],
        schemas: Mapping[int, bytes],
        epoch: Epoch | None = None,
        position: bytes | None = None,
        stage: Stage = Stage.NONE,
        kept: Mapping[str, bytes] | None = None,
        beside: Beside | None = None,
    ) -> list[Offset]:
        """Append frames of several topics, new schemas, the source's position and the pieces that
        it keeps beside it (an empty one is removed) in one commit, with what `Beside` says. Topics
        are made as needed. ``engine.disk_budget`` where frames have no room; all else goes on then.
        Returns the offset of each frame's first event (-1 if held). Raises StaleWriteError, and
        ``pipeline.fenced`` if ``epoch`` is not the latest claim."""

    def last_sequence(self) -> int:
        """The sequence of the newest frame; 0 if there is none."""

    def sequence_at(self, topic_id: bytes, offset: Offset) -> int | None:
        """The sequence of the frame that holds ``offset`` or comes next; None if there is none."""

    def offset_at(self, topic_id: bytes, time_us: int) -> Offset | None:
        """The first offset of the first frame whose running maximum of commit times reaches
        ``time_us``; None if none does."""

    def frames(self, topics: Iterable[bytes], after: int, bytes_max: int) -> list[Stored]:
        """Frames behind the sequence ``after``, in order: at least one if there is any, and none
        after the one that brings them to ``bytes_max``."""

    def schema(self, schema_id: int) -> bytes | None: ...

    def delete_topic(self, topic_id: bytes) -> None:
        """Remove a topic with all that is of it, held frames too; nothing if it is gone already."""

    def bell(self) -> Bell:
        """Something to wait on for appends of any process."""

    def close(self) -> None: ...
