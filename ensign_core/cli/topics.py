"""``ensign topics``, ``read`` and ``publish``."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated, Any, Literal

import typer

from ensign_core.broker import Deduplication, Reader, Retention, TopicInfo, TopicPolicy
from ensign_core.change import Batch, Op
from ensign_core.cli import keeping, large
from ensign_core.cli.keeping import TopicArgument
from ensign_core.cli.options import (
    ConfigOption,
    IdentityOption,
    JsonOption,
    KeysOption,
    PathOption,
    open_broker,
    parse_start,
)
from ensign_core.cli.output import notice, show_fields, show_json, table
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
    policy_dict,
    policy_text,
    retention,
)
from ensign_core.cli.publishing import publish_lines, show_acked
from ensign_core.errors import EnsignError
from ensign_core.formats import FORMATS, Formatter, formatter
from ensign_core.run.status import lag

app = typer.Typer(no_args_is_help=True, help="List, create, show, keep and delete topics.")
app.command("set")(keeping.set_topic)
app.command("archive")(keeping.archive_topic)
app.command("unarchive")(keeping.unarchive_topic)
app.command("trim")(keeping.trim_topics)
app.command("forget")(keeping.forget_group)


def as_dict(topic: TopicInfo) -> dict[str, Any]:
    """A topic with the fields of the public contract."""
    return {
        "name": topic.name,
        "id": topic.id,
        "events": topic.events,
        "bytes": topic.bytes,
        "first_offset": topic.first_offset,
        "next_offset": topic.next_offset,
        "key_ids": topic.key_ids,
        "groups": [
            {"name": name, "offset": offset, "lag_events": lag(topic, offset)}
            for name, offset in sorted(topic.groups.items())
        ],
        "state": topic.state,
        "duplicates": topic.duplicates,
        "content_bytes": topic.content_bytes,
        "ratio": round(topic.content_bytes / topic.bytes, 2) if topic.content_bytes else None,
        "policy": policy_dict(topic.policy),
        "sealing": topic.policy.sealing,
    }


def _groups(topic: TopicInfo) -> str:
    return ", ".join(f"{name} at {offset}" for name, offset in sorted(topic.groups.items()))


def _groups_behind(topic: TopicInfo) -> str:
    return ", ".join(
        f"{name} at {offset} ({lag(topic, offset)} behind)"
        for name, offset in sorted(topic.groups.items())
    )


def _show(topics: list[TopicInfo]) -> None:
    table(
        ["name", "events", "bytes", "offsets", "state", "groups"],
        [
            [
                topic.name, topic.events, topic.bytes,
                f"{topic.first_offset}..{topic.next_offset}", topic.state,
                _groups(topic),
            ]
            for topic in topics
        ],
    )  # fmt: skip


@app.command("list")
def list_topics(
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """All topics with their events, bytes and groups."""
    with open_broker(config, path, keys) as broker:
        topics = broker.topics()
    if as_json:
        show_json([as_dict(topic) for topic in topics])
    elif topics:
        _show(topics)
    else:
        notice("There are no topics yet: `ensign run` a pipeline or `ensign publish` makes them.")


@app.command("show")
def show_topic(
    topic: TopicArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """One topic."""
    with open_broker(config, path, keys) as broker:
        info = broker.topic(topic)
    if as_json:
        show_json([as_dict(info)])
        return
    shown = as_dict(info) | {
        "key_ids": ", ".join(info.key_ids),
        "groups": _groups_behind(info),
        "policy": policy_text(info.policy),
    }
    show_fields(shown)


@app.command("create")
def create_topic(
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
    sealing: Annotated[
        Literal["server", "client"] | None,
        typer.Option(
            "--sealing",
            help="server: whoever has the project's key reads it; client: only readers that have "
            "a grant. For ever. Default: server.",
        ),
    ] = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Make an empty topic, which keeps its events for ever unless you say otherwise; one that
    exists stays as it is."""
    kept = retention(Retention(), keep_age, keep_bytes, compact, tombstones, trim_unread)
    compared = deduplication(Deduplication(), dedup, dedup_keys, dedup_fields, dedup_keep)
    with open_broker(config, path, keys, create=True) as broker:
        policy = TopicPolicy(kept, compared, sealing or "server")
        chosen = sealing is not None or policy != TopicPolicy()
        broker.create_topic(topic, policy if chosen else None)


@app.command("delete")
def delete_topic(
    topic: TopicArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a topic with all its events and its key."""
    with open_broker(config, path, keys) as broker:
        info = broker.topic(topic)
        if not yes:
            typer.confirm(f"Delete {topic} and its {info.events} events for ever?", abort=True)
        broker.delete_topic(topic)


def read(
    topic: TopicArgument,
    start: Annotated[
        str, typer.Option("--from", help="start, end, an offset, or a time such as 2026-11-23T10Z.")
    ] = "start",
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more at the end.")] = False,
    most: Annotated[int | None, typer.Option("--max", min=0, help="Stop after N events.")] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Go on where this group is, and commit what was printed."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "json",
    save: large.SaveOption = None,
    stores: large.StoresOption = None,
    skip_revoked: Annotated[
        bool, typer.Option("--skip-revoked", help="Go on behind events whose key was revoked.")
    ] = False,
    identity: IdentityOption = None,
    as_reader: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Read what this reader may read.")
    ] = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Print the events of a topic, one per line, or save each one's data to a file."""
    lines = formatter(form)
    begin = parse_start(start)
    if group is not None and save is not None:
        raise EnsignError(
            "usage.conflict",
            "--group and --save were both given.",
            "Save events by --from and --max, or print those of a group.",
        )
    with open_broker(config, path, keys, identity=identity) as broker:
        reader = broker.reader(
            [topic], begin, group, skip_revoked=skip_revoked, as_reader=as_reader
        )
        left = most if most is not None else sys.maxsize
        if save is not None:
            large.save(broker, reader, save, stores or [], left, follow=follow)
            return
        _print(reader, lines, left, group, follow=follow)


def _print(reader: Reader, lines: Formatter, left: int, group: str | None, *, follow: bool) -> None:
    """Print at most ``left`` events, to the topic's end or for ever, and commit each fetch that was
    printed for the group."""
    skipped = 0
    while left > 0:
        batches = reader.fetch(1.0 if follow else 0.0)
        if reader.skipped > skipped:
            notice(f"{reader.skipped - skipped} events were passed over: their key is revoked.")
            skipped = reader.skipped
        if not batches and not follow:
            return
        for batch in batches:
            if left <= 0:
                break
            part = _first(batch, left)
            left -= len(part) - part.ops.count(Op.REMOVED)
            sys.stdout.buffer.write(lines.lines(part).text)
        sys.stdout.buffer.flush()
        if group is not None and batches:
            reader.commit(group, {part.topic: part.next_offset})


def _first(batch: Batch, most: int) -> Batch:
    """The first so many events of a batch, those that were taken out not counted."""
    if len(batch) - batch.ops.count(Op.REMOVED) <= most:
        return batch
    there = (place for place, op in enumerate(batch.ops) if op != Op.REMOVED)
    return batch.part(0, next(islice(there, most, None)))


def publish(
    topic: TopicArgument,
    key: Annotated[
        str | None, typer.Option("--key", help="The field of each JSON object that is its key.")
    ] = None,
    file: large.FileOption = None,
    chunked: large.ChunkedOption = False,
    claim_check: large.ClaimCheckOption = None,
    mimetype: large.MimetypeOption = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish each line of standard input as an event, or one file; says when a batch is synced."""
    how = large.how(file, chunked, claim_check, mimetype, key)
    with open_broker(config, path, keys, create=True) as broker:
        broker.create_topic(topic)
        if file is not None:
            offset, duplicate = large.publish(broker, topic, file, how, mimetype)
            show_acked(1, offset, int(duplicate), as_json=as_json)
        else:
            publish_lines(broker.publisher(), topic, sys.stdin.fileno(), key, as_json=as_json)
