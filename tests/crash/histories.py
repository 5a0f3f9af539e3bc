"""Random histories of one project: lives of a process, what each does, and where it is killed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from ensign_core.broker import Event, Retention, TopicPolicy
from ensign_core.broker.events import event_batch
from ensign_core.change import Stage
from ensign_core.rows import new_image

TOPICS = ("a", "b")
GROUPS = ("g", "h")
PIPELINE = "p"
OLD_S = 9 * 86_400.0
"""How old old events are; `AGE_S` is younger."""
AGE_S = 7 * 86_400.0

Kind = Literal[
    "policy", "append", "publish", "rotate", "revoke", "master", "keep", "commit", "look"
]
WEIGHTS: dict[Kind, float] = {
    "policy": 1, "append": 6, "publish": 3, "rotate": 2, "revoke": 1, "master": 0.3, "keep": 3,
    "commit": 1.5, "look": 0.7,
}  # fmt: skip

Seam = Literal["moment", "statement", "commit", "write", "sync", "delete"]
SEAMS: dict[Seam, tuple[float, int]] = {
    "moment": (2, 3000), "statement": (2, 12), "commit": (1, 2), "write": (3, 40), "sync": (2, 5),
    "delete": (0.7, 3),
}  # fmt: skip
"""How often each is chosen, and how far its count goes: what of its kind is still let through."""


@dataclass(frozen=True)
class Item:
    """An event: of a topic, with a key or none; ``data`` is None for a delete."""

    topic: str
    key: bytes | None
    data: bytes | None

    @property
    def event(self) -> Event:
        return Event(self.data or b"", self.key)

    def body(self, *, published: bool) -> bytes:
        """What is to lie in the topic."""
        if published:
            return bytes(event_batch(self.topic, [self.event]).body)
        return new_image([self.key, self.data, None, None, None])


@dataclass(frozen=True)
class Step:
    """One operation with what it takes."""

    kind: Kind
    topic: str = ""
    items: tuple[Item, ...] = ()
    piped: bool = False
    stage: Stage = Stage.NONE
    position: bytes = b""
    old: bool = False
    number: int = 0
    group: str = ""
    policy: TopicPolicy | None = None


@dataclass(frozen=True)
class Kill:
    """Where a life ends: within the step ``at`` (-1: when the project is opened), or later if the
    seam is not come by so often. ``part`` is how much of a write that is broken off is written."""

    at: int
    seam: Seam
    count: int
    part: float
    tear: int
    """What the tail that was not synced is torn with."""


@dataclass(frozen=True)
class Life:
    """What one process does with the project; without ``kill`` it closes it in the end."""

    steps: tuple[Step, ...]
    kill: Kill | None


def drawn(seed: int) -> list[Life]:
    """The history of a seed."""
    random = Random(seed)
    lives: list[Life] = []
    first = [_step(random, "policy", topic) for topic in TOPICS if random.random() < 0.8]
    for number in range(random.randint(1, 4)):
        kinds = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=random.randint(1, 7))
        steps = [] if number else first
        steps = [*steps, *(_step(random, kind, random.choice(TOPICS)) for kind in kinds)]
        kill = _kill(random, len(steps)) if random.random() < 0.8 else None
        lives.append(Life(tuple(steps), kill))
    return lives


def _kill(random: Random, steps: int) -> Kill:
    (seam,) = random.choices(list(SEAMS), [weight for weight, _ in SEAMS.values()])
    at = random.randrange(-1, steps) if random.random() < 0.3 else random.randrange(steps)
    return Kill(
        at, seam, random.randrange(SEAMS[seam][1]), random.random(), random.randrange(1 << 30)
    )


def _step(random: Random, kind: Kind, topic: str) -> Step:
    if kind == "append":
        piped = random.random() < 0.6
        stages = [Stage.NONE, Stage.NONE, Stage.HOLD, Stage.HOLD, Stage.RELEASE]
        stage = random.choice(stages) if piped else Stage.NONE
        return Step(
            kind, items=_items(random, deletes=0.25), piped=piped, stage=stage,
            position=random.randbytes(random.randint(1, 6)) if piped else b"",
            old=random.random() < 0.5,
        )  # fmt: skip
    if kind == "publish":
        return Step(kind, items=_items(random, deletes=0))
    if kind == "policy":
        return Step(kind, topic, policy=_policy(random))
    if kind == "commit":
        return Step(kind, topic, group=random.choice(GROUPS), number=random.randrange(12))
    return Step(kind, topic, number=random.randrange(6))


def _items(random: Random, deletes: float) -> tuple[Item, ...]:
    items = []
    for _ in range(random.randint(1, 6)):
        key = random.choice([None, b"k", b"l", b"m"])
        gone = key is not None and random.random() < deletes
        data = None if gone else random.randbytes(random.choice([1, 8, 60, 400]))
        items.append(Item(random.choice(TOPICS), key, data))
    return tuple(items)


def _policy(random: Random) -> TopicPolicy:
    return TopicPolicy(
        Retention(
            age_s=AGE_S if random.random() < 0.3 else None,
            bytes_max=random.choice([1, 700, 2500]) if random.random() < 0.4 else None,
            compact=random.random() < 0.6,
            tombstone_s=random.choice([0.0, 1e9]),
            trim_unread=random.random() < 0.5,
        )
    )
