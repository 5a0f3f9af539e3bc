"""``ensign dead-letters``: events that could not be processed, seen and put away."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ensign_core.broker import Broker
from ensign_core.change import Change
from ensign_core.cli.options import (
    ConfigOption,
    JsonOption,
    KeysOption,
    PathOption,
    chosen,
    load_config,
    open_broker,
)
from ensign_core.cli.output import notice, show_json, table
from ensign_core.errors import EnsignError
from ensign_core.rows import decode
from ensign_core.run.context import dead_letter_topic

app = typer.Typer(no_args_is_help=True, help="List and drop events that could not be processed.")

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Its name.")]
OffsetOption = Annotated[
    list[int] | None, typer.Option("--offset", help="Only this one; may be repeated.")
]
COLUMNS = ("offset", "time", "code", "error", "event", "bytes")


@app.command("list")
def list_letters(
    pipeline: PipelineArgument,
    offset: OffsetOption = None,
    data: Annotated[
        bool, typer.Option("--data", help="Print the events too, in base64 (implies --json).")
    ] = False,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was set aside, when, and for which error; never the data unless --data asks for it."""
    with _open(pipeline, config, path, keys) as broker:
        letters = list(_letters(broker, pipeline, offset, with_data=data))
    if as_json or data:
        show_json(letters)
    elif letters:
        table(COLUMNS, [_row(letter) for letter in letters])
    else:
        notice(f"{pipeline} has no dead letters.")


@app.command("drop")
def drop_letters(
    pipeline: PipelineArgument,
    offset: OffsetOption = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that you are done with dead letters: they are not listed any more. Their topic keeps
    them, as every topic keeps its events."""
    with _open(pipeline, config, path, keys) as broker:
        found = [letter["offset"] for letter in _letters(broker, pipeline, offset)]
        missing = sorted(set(offset or ()) - set(found))
        if missing:
            raise EnsignError(
                "usage.offset_unknown",
                f"{pipeline} has no dead letter at offset {missing[0]}; nothing was dropped.",
                f"See which there are: ensign dead-letters list {pipeline}",
            )
        if found:
            if not offset and not yes:
                typer.confirm(f"Drop all {len(found)} dead letters of {pipeline}?", abort=True)
            broker.drop_events(dead_letter_topic(pipeline), found)
    notice(f"Dropped: {len(found)}.")


def _open(pipeline: str, config: ConfigOption, path: PathOption, keys: KeysOption) -> Broker:
    if config is not None:
        chosen(load_config(config), [pipeline])
    return open_broker(config, path, keys)


def _letters(
    broker: Broker, pipeline: str, offsets: list[int] | None, *, with_data: bool = False
) -> Iterator[dict[str, Any]]:
    topic = dead_letter_topic(pipeline)
    if not broker.topics([topic]):
        return
    dropped = broker.dropped(topic)
    with broker.reader([topic], min(offsets) if offsets else "start") as reader:
        while batches := reader.fetch():
            for change in (change for batch in batches for change in batch):
                wanted = offsets is None or change.offset in offsets
                if wanted and change.offset not in dropped:
                    yield _letter(change, with_data=with_data)


def _letter(change: Change, *, with_data: bool) -> dict[str, Any]:
    row = change.images()[1]
    assert row is not None
    _, data, metadata, *_ = decode(row)
    assert isinstance(data, bytes)
    assert isinstance(metadata, str)
    known = json.loads(metadata)
    time_us = change.tx.committed_at if change.tx else None
    letter = {
        "offset": change.offset,
        "time": None if time_us is None else _iso(time_us),
        "code": known["code"],
        "error": known["error"],
        "topic": known.get("topic"),
        "event_offset": int(known["offset"]) if "offset" in known else None,
        "op": known.get("op"),
        "schema": known.get("schema"),
        "bytes": len(data),
    }
    return letter | {"data": base64.b64encode(data).decode()} if with_data else letter


def _iso(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _row(letter: dict[str, Any]) -> list[Any]:
    event = None
    if letter["topic"] is not None:
        event = f"{letter['op']} in {letter['topic']} at {letter['event_offset']}"
    return [
        letter["offset"], letter["time"], letter["code"], letter["error"], event, letter["bytes"]
    ]  # fmt: skip
