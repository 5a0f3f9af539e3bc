"""``ensign topics set``, ``archive``, ``unarchive``, ``trim`` and ``forget``: how long topics keep
what they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ensign_core.cli.options import ConfigOption, JsonOption, KeysOption, PathOption, open_broker
from ensign_core.cli.output import show_rows
from ensign_core.cli.policy import (
    CompactOption,
    FieldsOption,
    KeepAgeOption,
    KeepBytesOption,
    KeepOption,
    NamesOption,
    StrategyOption,
    TombstonesOption,
    TrimUnreadOption,
    deduplication,
    retention,
)

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]


def set_topic(
    topic: TopicArgument,
    keep_age: KeepAgeOption = None,
    keep_bytes: KeepBytesOption = None,
    compact: CompactOption = None,
    tombstones: TombstonesOption = None,
    trim_unread: TrimUnreadOption = None,
    dedup: StrategyOption = None,
    dedup_keys: NamesOption = None,
    dedup_fields: FieldsOption = None,
    dedup_keep: KeepOption = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Change what a topic keeps, and which events are duplicates; what is not given stays."""
    with open_broker(config, path, keys) as broker:
        policy = broker.topic(topic).policy
        kept = retention(policy.retention, keep_age, keep_bytes, compact, tombstones, trim_unread)
        compared = deduplication(policy.deduplication, dedup, dedup_keys, dedup_fields, dedup_keep)
        broker.set_policy(topic, replace(policy, retention=kept, deduplication=compared))


def archive_topic(
    topic: TopicArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Let a topic take no more events; it can be read as before."""
    with open_broker(config, path, keys) as broker:
        broker.archive_topic(topic)


def unarchive_topic(
    topic: TopicArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Let an archived topic take events again."""
    with open_broker(config, path, keys) as broker:
        broker.unarchive_topic(topic)


def trim_topics(
    topic: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC", help="Only this topic; may be repeated.")
    ] = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trim and compact topics now as their policies say; whoever writes does it now and then."""
    with open_broker(config, path, keys) as broker:
        kept = broker.keep(topic)
    columns = ("topic", "trimmed", "compacted")
    empty = "Nothing was to be trimmed or compacted."
    show_rows([vars(one) for one in kept], columns, as_json=as_json, empty=empty)


def forget_group(
    group: Annotated[
        str, typer.Argument(metavar="GROUP", help="The group's name; a sink's is PIPELINE/SINK.")
    ],
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Forget where a group that is no more stands, so that topics need not keep events for it."""
    with open_broker(config, path, keys) as broker:
        broker.forget_group(group)
