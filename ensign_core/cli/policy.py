"""Options of ``ensign topics create`` and ``set``: what a topic's owner decides about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import typer

from ensign_core.broker import Deduplication, TopicPolicy
from ensign_core.broker.policy import Strategy
from ensign_core.errors import EnsignError

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


def changed(
    policy: TopicPolicy,
    strategy: Strategy | None,
    keys: Sequence[str] | None,
    fields: Sequence[str] | None,
    keep: Keep | None,
) -> TopicPolicy:
    """A policy with the options that were given; keys and fields come with a strategy."""
    before = policy.deduplication
    if strategy is None and (keys or fields):
        raise EnsignError(
            "usage.conflict",
            "--dedup-key and --dedup-field were given without --dedup.",
            "Say with --dedup how events are compared.",
        )
    if strategy is not None:
        before = Deduplication(strategy, tuple(keys or ()), tuple(fields or ()))
    return replace(policy, deduplication=replace(before, keep=keep or before.keep))
