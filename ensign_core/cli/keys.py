"""``ensign keys``: the keys that topics are sealed under, and the one behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ensign_core.broker import KeyInfo
from ensign_core.change import Offset
from ensign_core.cli.options import ConfigOption, JsonOption, KeysOption, PathOption, open_broker
from ensign_core.cli.output import notice, out, show_json, show_rows
from ensign_core.errors import EnsignError

app = typer.Typer(no_args_is_help=True, help="List, rotate and revoke encryption keys.")
RANGES_SHOWN_MAX = 10

COLUMNS = ["key_id", "topic", "created", "state", "frames"]


def as_dict(key: KeyInfo) -> dict[str, Any]:
    """A key with the fields of the public contract."""
    created = key.created.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return vars(key) | {"created": created}


def _show(keys: Sequence[KeyInfo], *, as_json: bool) -> None:
    empty = "There are no keys: a topic gets one with its first event."
    show_rows([as_dict(key) for key in keys], COLUMNS, as_json=as_json, empty=empty)


@app.command("list")
def list_keys(
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """The keys of all topics, by topic and age."""
    with open_broker(config, path, keys) as broker:
        _show(broker.keys.list(), as_json=as_json)


@app.command("rotate")
def rotate(
    topic: Annotated[str | None, typer.Option("--topic", help="Only this topic's key.")] = None,
    master: Annotated[
        bool, typer.Option("--master", help="Replace the key that wraps the topics' keys instead.")
    ] = False,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal new events under new keys; shows those. Whatever writes and reads goes on meanwhile."""
    if master and topic is not None:
        raise EnsignError(
            "usage.conflict",
            "--master and --topic were both given.",
            "Rotate the one, then the other.",
        )
    with open_broker(config, path, keys) as broker:
        if not master:
            _show(broker.keys.rotate(topic), as_json=as_json)
            return
        rotated = broker.keys.rotate_master()
    if as_json:
        show_json([{"master": True, "rotated": rotated}])
    elif rotated:
        out.print("All keys are wrapped under a new key-encryption key; data is as it was.")
    else:
        out.print("A rotation that was broken off is complete; once more gives a new key.")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `ensign keys list` has it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy a key: what it sealed can never be read again."""
    with open_broker(config, path, keys) as broker:
        key = broker.keys.find(key_id)
        ranges = broker.keys.ranges(key_id)
        notice(_loss(key, ranges))
        if not yes:
            typer.confirm("Destroy the key for ever?", abort=True, err=True)
        broker.keys.revoke(key_id)
        revoked = broker.keys.find(key_id)
    if as_json:
        _show([revoked], as_json=True)
    else:
        out.print(f"The key {revoked.key_id} of {revoked.topic} is destroyed.")


def _loss(key: KeyInfo, ranges: Sequence[tuple[Offset, Offset]]) -> str:
    """What nobody will be able to read."""
    if not ranges:
        return f"No events of the topic {key.topic} are sealed under the key {key.key_id}."
    count = sum(last - first + 1 for first, last in ranges)
    shown = [f"{first} to {last}" for first, last in ranges[:RANGES_SHOWN_MAX]]
    if len(ranges) > RANGES_SHOWN_MAX:
        shown.append(f"... to {ranges[-1][1]}")
    verb = "are unreadable" if key.state == "revoked" else "will be unreadable for ever"
    return (
        f"{count} events of the topic {key.topic}, at offsets {', '.join(shown)}, {verb} without "
        f"the key {key.key_id}. Copies that were made before are not changed by that: what readers "
        "and sinks have, and backups."
    )
