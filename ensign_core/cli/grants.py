"""``ensign grants``: who may read which topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensign_core.cli.keeping import TopicArgument
from ensign_core.cli.options import (
    ConfigOption,
    JsonOption,
    KeysOption,
    PathOption,
    open_broker,
)
from ensign_core.cli.output import notice, out, show_json, show_rows
from ensign_core.crypto import Identity

app = typer.Typer(no_args_is_help=True, help="Let readers read topics, and stop letting them.")

COLUMNS = ("topic", "reader", "public_key", "since")
ReaderArgument = Annotated[str, typer.Argument(metavar="READER", help="The reader's name.")]


@app.command()
def add(
    topic: TopicArgument,
    reader: ReaderArgument,
    public_key: Annotated[
        str | None,
        typer.Option("--public-key", metavar="TEXT", help="What `ensign grants identity` printed."),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            help="The file of an identity that can read a client-sealed topic: gives the reader "
            "what it can read, too.",
        ),
    ] = None,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Let a reader read a topic: a client-sealed one from now on."""
    with open_broker(config, path, keys, identity=identity) as broker:
        broker.grants.add(topic, reader, public_key, past=identity is not None)


@app.command()
def remove(
    topic: TopicArgument,
    reader: ReaderArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
) -> None:
    """Let a reader read a topic no more; within a second for one that reads it now."""
    with open_broker(config, path, keys) as broker:
        broker.grants.remove(topic, reader)
        if broker.client_sealed([topic]) and not broker.grants.list(topic):
            notice(f"Nobody has a grant for {topic} any more: what it holds nobody can read.")


@app.command("list")
def list_grants(
    topic: TopicArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who may read a topic."""
    with open_broker(config, path, keys) as broker:
        granted = broker.grants.list(topic)
    shown = [
        {
            "topic": one.topic,
            "reader": one.reader,
            "public_key": one.public_key,
            "since": one.since.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        for one in granted
    ]
    show_rows(shown, COLUMNS, as_json=as_json, empty=f"Nobody has a grant for {topic}.")


@app.command()
def identity(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to keep the identity.")],
    as_json: JsonOption = False,
) -> None:
    """Make the identity of a reader, and print its public key: what to give for a grant. The file
    is the reader's alone, and nobody can make it again."""
    public_key = Identity.create(file).public
    if as_json:
        show_json({"public_key": public_key})
    else:
        out.print(public_key, markup=False)
