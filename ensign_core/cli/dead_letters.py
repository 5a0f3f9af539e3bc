"""``ensign dead-letters``: events that could not be processed, seen, tried again and put away."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ensign_core.broker import Broker, Letters, dead_letter_topic
from ensign_core.broker.letters import Fate
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
from ensign_core.run.letters import SOURCE, Letter, read_letter

app = typer.Typer(
    no_args_is_help=True, help="List, replay and drop events that could not be processed."
)

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Its name.")]
OffsetOption = Annotated[
    list[int] | None, typer.Option("--offset", help="Only this one; may be repeated.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
COLUMNS = ("offset", "time", "part", "code", "error", "event", "bytes", "state", "attempts")


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
    """What was set aside, when, by which part and for which error; never the data unless --data
    asks for it."""
    with _open(pipeline, config, path, keys) as broker:
        letters = [
            _shown(letter, fate) | (_data(broker, pipeline, letter) if data else {})
            for letter, fate in _letters(broker, broker.pipelines.letters(pipeline), offset)
        ]
    if as_json or data:
        show_json(letters)
    elif letters:
        table(COLUMNS, [_row(letter) for letter in letters])
    else:
        notice(f"{pipeline} has no dead letters.")


@app.command("replay")
def replay_letters(
    pipeline: PipelineArgument,
    offset: OffsetOption = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
) -> None:
    """Have the pipeline work on dead letters again, now or when it runs next. What goes well is
    listed no more; the others stay, with their newer error. They come behind what came
    meanwhile."""
    with _open(pipeline, config, path, keys) as broker:
        letters = broker.pipelines.letters(pipeline)
        found = _of_parts(pipeline, _chosen(broker, letters, offset, "replayed"), config)
        count = sum(map(len, found.values()))
        if count and not offset and not yes:
            typer.confirm(f"Replay all {count} dead letters of {pipeline}?", abort=True)
        for part, offsets in found.items():
            letters.ask(part, offsets)
        runs = broker.pipelines.held(pipeline)
    if not count:
        notice(f"{pipeline} has no dead letters.")
    elif runs:
        notice(f"The worker of {pipeline} was told to replay {count}; what stays is listed.")
    else:
        notice(f"No worker runs {pipeline} now: {count} will be replayed at its next run.")


@app.command("drop")
def drop_letters(
    pipeline: PipelineArgument,
    offset: OffsetOption = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
) -> None:
    """Say that you are done with dead letters: they are not listed any more. Their topic keeps
    them, as every topic keeps its events."""
    with _open(pipeline, config, path, keys) as broker:
        letters = broker.pipelines.letters(pipeline)
        found = _chosen(broker, letters, offset, "dropped")
        count = sum(map(len, found.values()))
        if count and not offset and not yes:
            typer.confirm(f"Drop all {count} dead letters of {pipeline}?", abort=True)
        for offsets in found.values():
            letters.drop(offsets)
    notice(f"Dropped: {count}.")


def _open(pipeline: str, config: ConfigOption, path: PathOption, keys: KeysOption) -> Broker:
    if config is not None:
        chosen(load_config(config), [pipeline])
    return open_broker(config, path, keys)


def _letters(
    broker: Broker, letters: Letters, offsets: list[int] | None
) -> Iterator[tuple[Letter, Fate]]:
    """Those that are not done with, one after the other."""
    if not broker.topics([letters.topic]):
        return
    done = letters.done()
    with broker.reader([letters.topic], min(offsets) if offsets else "start") as reader:
        while batches := reader.fetch():
            for batch in batches:
                fates = letters.fates(batch.offset, batch.next_offset - 1)
                for change in batch:
                    wanted = not offsets or change.offset in offsets
                    if wanted and change.offset not in done:
                        yield read_letter(change), fates.get(change.offset, Fate())


def _chosen(
    broker: Broker, letters: Letters, offsets: list[int] | None, what: str
) -> dict[str | None, array[int]]:
    """The offsets of all letters, or of those that were named, by part."""
    found: dict[str | None, array[int]] = {}
    for letter, _ in _letters(broker, letters, offsets):
        found.setdefault(letter.part, array("q")).append(letter.offset)
    missing = sorted(set(offsets or ()).difference(*found.values()))
    if missing:
        raise EnsignError(
            "usage.offset_unknown",
            f"{letters.pipeline} has no dead letter at offset {missing[0]}; nothing was {what}.",
            f"See which there are: ensign dead-letters list {letters.pipeline}",
        )
    return found


def _of_parts(
    pipeline: str, found: dict[str | None, array[int]], path: ConfigOption
) -> dict[str, array[int]]:
    """What was found, refused if it is of a part that would never look for it."""
    known = None
    if path is not None:
        known = {SOURCE, *load_config(path).pipelines[pipeline].sinks}
    named: dict[str, array[int]] = {}
    for part, offsets in found.items():
        if part is None:
            raise _of_nobody(
                f"An earlier Ensign set aside the dead letter at offset {offsets[0]} and did not "
                "keep for which sink"
            )
        if known is not None and part not in known:
            raise _of_nobody(
                f"The dead letter at offset {offsets[0]} is of the sink {part}, which {pipeline} "
                "has no more"
            )
        named[part] = offsets
    return named


def _of_nobody(why: str) -> EnsignError:
    return EnsignError(
        "usage.part_unknown",
        f"{why}; nothing was replayed.",
        "Name the others with --offset, and drop this one.",
    )


def _data(broker: Broker, pipeline: str, letter: Letter) -> dict[str, Any]:
    """The event's bytes, or nothing but the code if the key is revoked that they were under."""
    data, copy = letter.data, letter.copy
    if copy is not None and letter.place is not None:
        try:
            data = broker.copies.open(dead_letter_topic(pipeline), *letter.place, copy)
        except EnsignError as error:
            if error.code != "key.revoked":
                raise
            return {"data": None, "data_code": error.code}
    return {"data": base64.b64encode(data).decode()}


def _shown(letter: Letter, fate: Fate) -> dict[str, Any]:
    topic, event_offset = letter.place or (None, None)
    return {
        "offset": letter.offset,
        "time": None if letter.time_us is None else _iso(letter.time_us),
        "part": letter.part,
        "code": fate.code or letter.code,
        "error": fate.error or letter.error,
        "topic": topic,
        "event_offset": event_offset,
        "op": letter.op,
        "schema": letter.schema,
        "bytes": letter.size,
        "state": "replaying" if fate.replaying else "waiting",
        "attempts": fate.attempts,
    }


def _iso(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _row(letter: dict[str, Any]) -> list[Any]:
    event = None
    if letter["topic"] is not None:
        event = f"{letter['op']} in {letter['topic']} at {letter['event_offset']}"
    elif letter["op"] is not None:
        event = f"{letter['op']} of {letter['schema']}"
    return [{**letter, "event": event}[column] for column in COLUMNS]
