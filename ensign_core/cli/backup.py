"""``ensign backup``, ``restore`` and ``verify``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from ensign_core.broker import Manifest, Problem, restore
from ensign_core.broker.verify import Progress
from ensign_core.cli.options import (
    ConfigOption,
    JsonOption,
    KeysOption,
    PathOption,
    configured_keys,
    load_config,
    named_keys,
    open_broker,
)
from ensign_core.cli.output import EXIT_FAILED, err, notice, out, show_fields, show_json, table
from ensign_core.errors import EnsignError

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")]


def backup(
    folder: FolderArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a project into DIR while it is in use, and open every frame of the copy."""
    with open_broker(config, path, keys) as broker, _shown() as progress:
        made = broker.backup(folder, progress)
    _show(made, folder, as_json)
    notice(
        "The key that opens it is not in it, nor are the objects of claim-checked events: keep "
        "copies of those elsewhere. Data keys that are revoked later are in it: what they sealed "
        "can be read from this backup until it is destroyed."
    )


def restore_backup(
    folder: FolderArgument,
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the project of the backup in DIR again, where there is none, and open every frame."""
    if config is not None and path is None and keys is None:
        settings = load_config(config).broker
        target, provider = settings.path, configured_keys(settings)
    elif config is None and path is not None:
        target, provider = path, named_keys(path, keys)
    else:
        raise EnsignError(
            "usage.no_broker",
            "The command needs to know where the project is to be.",
            "Give either --config FILE, or --path with a new folder and its --keys.",
        )
    with _shown() as progress:
        made = restore(folder, target, provider, progress)
    _show(made, target, as_json)
    notice(
        f"The project is as of {made.made_at}. Its pipelines go on from where they stood then: if a"
        " source's server has forgotten its log since, the pipeline says so when it runs, and a "
        "sink whose target has more than the topics is refused with sink.ahead."
    )


def verify(
    config: ConfigOption = None,
    path: PathOption = None,
    keys: KeysOption = None,
    topics: Annotated[
        list[str] | None, typer.Option("--topic", help="Only this one; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open every frame, record and key of a project that may be in use, and list what is wrong."""
    with open_broker(config, path, keys) as broker, _shown() as progress:
        found = broker.verify(topics, progress)
    listed = found.problems + found.revoked
    if as_json:
        show_json([asdict(problem) for problem in listed])
    elif listed:
        _list(listed)
    counted = ("topics", "frames", "events", "bytes", "keys")
    summary = ", ".join(f"{name} {getattr(found, name)}" for name in counted) + "."
    if found.problems_left_out:
        summary += f" {found.problems_left_out} problems more are not listed."
    if as_json or listed:
        notice(f"Opened: {summary}")
    else:
        out.print(f"All is as it was written: {summary}", markup=False)
    if found.problems:
        raise typer.Exit(EXIT_FAILED)


def _list(problems: list[Problem]) -> None:
    table(
        ["code", "topic", "offsets", "what"],
        [
            [
                problem.code, problem.topic,
                None if problem.first_offset is None
                else f"{problem.first_offset}..{problem.last_offset}",
                problem.sentence,
            ]
            for problem in problems
        ],
    )  # fmt: skip


def _show(made: Manifest, folder: Path, as_json: bool) -> None:
    fields = ("project", "made_at", "topics", "frames", "events", "bytes")
    shown = {"path": str(folder)} | {name: getattr(made, name) for name in fields}
    if as_json:
        show_json([shown])
        return
    show_fields(shown)


@contextlib.contextmanager
def _shown() -> Iterator[Progress]:
    """A bar on a terminal for what takes long, and nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
               TransferSpeedColumn())  # fmt: skip
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:

        def progress(what: str, done: int, total: int) -> None:
            if [task.description for task in bar.tasks] != [what]:
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(what, total=None)
            bar.update(bar.task_ids[0], completed=done, total=total or None)

        yield progress
