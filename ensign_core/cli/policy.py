"""Options of `ensign topics create` and `set`, and the policies that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeVar

import typer

from ensign_core.broker import Deduplication, Retention, TopicPolicy
from ensign_core.broker.policy import Strategy
from ensign_core.config import KeepConfig
from ensign_core.config.quantities import seconds_of, size_of
from ensign_core.errors import EnsignError

FOREVER = "forever"

KeepAgeOption = Annotated[
    str | None,
    typer.Option(
        "--keep-age", metavar="TIME", help="Trim events older than this, such as 7d; or forever."
    ),
]
KeepBytesOption = Annotated[
    str | None,
    typer.Option(
        "--keep-bytes", metavar="SIZE",
        help="Trim the oldest events beyond this size, such as 10GB; or forever.",
    ),
]  # fmt: skip
CompactOption = Annotated[
    bool | None,
    typer.Option("--compact/--no-compact", help="Keep the latest event of each key only."),
]
TombstonesOption = Annotated[
    str | None,
    typer.Option(
        "--tombstones", metavar="TIME", help="How long a compacted topic keeps deletes (1d)."
    ),
]
TrimUnreadOption = Annotated[
    bool | None,
    typer.Option("--trim-unread/--no-trim-unread", help="Trim also what groups have not read."),
]

Keep = Literal["earliest", "latest"]

StrategyOption = Annotated[
    Strategy | None,
    typer.Option("--dedup", help="Which published events are duplicates of earlier ones."),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option("--dedup-key", metavar="KEY", help="A key of the metadata that is compared."),
]
FieldsOption = Annotated[
    list[str] | None,
    typer.Option("--dedup-field", metavar="FIELD", help="A field of JSON data; a.b is one below."),
]
KeepOption = Annotated[
    Keep | None, typer.Option("--dedup-keep", help="Which of two equal events stays.")
]

T = TypeVar("T", int, float)


def retention(
    before: Retention,
    keep_age: str | None,
    keep_bytes: str | None,
    compact: bool | None,
    tombstones: str | None,
    trim_unread: bool | None,
) -> Retention:
    """A retention with what was given of these options; what was not stays. ``usage.quantity``."""
    changed: dict[str, Any] = {}
    if keep_age is not None:
        changed["age_s"] = _limit("--keep-age", keep_age, seconds_of, "7d")
    if keep_bytes is not None:
        changed["bytes_max"] = _limit("--keep-bytes", keep_bytes, size_of, "10GB")
    if compact is not None:
        changed["compact"] = compact
    if tombstones is not None:
        seconds = seconds_of(tombstones)
        if seconds is None:
            raise _not_read("--tombstones", "1d")
        changed["tombstone_s"] = seconds
    if trim_unread is not None:
        changed["trim_unread"] = trim_unread
    return replace(before, **changed)


def _limit(option: str, text: str, read: Callable[[str], T | None], example: str) -> T | None:
    if text == FOREVER:
        return None
    value = read(text)
    if not value:
        raise _not_read(option, f"{example}, or {FOREVER}")
    return value


def _not_read(option: str, example: str) -> EnsignError:
    return EnsignError(
        "usage.quantity", f"{option} is not a quantity that is known.", f"Write it as {example}."
    )


def deduplication(
    before: Deduplication,
    strategy: Strategy | None,
    keys: Sequence[str] | None,
    fields: Sequence[str] | None,
    keep: Keep | None,
) -> Deduplication:
    """A deduplication with what was given of these options; names come with a strategy."""
    if strategy is None and (keys or fields):
        raise EnsignError(
            "usage.conflict",
            "--dedup-key and --dedup-field were given without --dedup.",
            "Say with --dedup how events are compared.",
        )
    if strategy is not None:
        before = Deduplication(strategy, tuple(keys or ()), tuple(fields or ()))
    return replace(before, keep=keep or before.keep)


def policy_of(configured: Mapping[str, KeepConfig], topic: str) -> TopicPolicy | None:
    """The policy that a config has for a topic that a pipeline makes."""
    for glob, keep in configured.items():
        if fnmatchcase(topic, glob):
            return TopicPolicy(
                Retention(
                    keep.keep_age, keep.keep_bytes, keep.compact, keep.tombstones, keep.trim_unread
                )
            )
    return None


def policy_dict(policy: TopicPolicy) -> dict[str, Any]:
    """A policy as `ensign topics show --json` has it."""
    return asdict(policy)


def policy_text(policy: TopicPolicy) -> str:
    """A policy in a few words."""
    kept = policy.retention
    words = []
    if kept.age_s is not None:
        words.append(f"{_time(kept.age_s)} at most")
    if kept.bytes_max is not None:
        words.append(f"{kept.bytes_max} bytes at most")
    if kept.compact:
        words.append(f"compacted, deletes {_time(kept.tombstone_s)}")
    text = "; ".join(words) or "kept for ever"
    if kept.trim_unread:
        text += "; unread events are trimmed too"
    if policy.deduplication.strategy != "none":
        text += f"; no duplicates ({policy.deduplication.strategy})"
    return text if policy.sealing == "server" else f"{text}; sealed for its readers"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
