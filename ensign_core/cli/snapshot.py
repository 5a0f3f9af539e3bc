"""``ensign snapshot``: what an operator asks of a pipeline's source, now or when it runs next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensign_core.cli.options import chosen, load_config, open_configured
from ensign_core.cli.output import notice
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from ensign_core.run.context import no_reconcile

app = typer.Typer(no_args_is_help=True, help="Read tables again, and pause, resume or stop that.")

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Its name.")]
DeclaredOption = Annotated[Path, typer.Option("--config", help="The YAML file that declares it.")]


@app.command()
def start(
    pipeline: PipelineArgument,
    config: DeclaredOption,
    tables: Annotated[
        list[str] | None,
        typer.Option("--tables", help="Tables, as globs; may be repeated. All if not given."),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows with this, in the server's own SQL.")
    ] = None,
    reconcile: Annotated[
        bool,
        typer.Option("--reconcile", help="Events only for what the topic lacks, and deletes."),
    ] = False,
) -> None:
    """Read tables of a pipeline again, while it streams: all their rows, or what differs."""
    if where is not None and reconcile:
        raise EnsignError(
            "usage.conflict",
            "--where and --reconcile were both given: of a part of a table nobody can tell which "
            "rows were deleted.",
            "Reconcile the whole table, or read the rows again without --reconcile.",
        )
    if where is not None and not tables:
        raise EnsignError(
            "usage.where_without_tables",
            "--where was given without the tables that it is meant for.",
            "Name them with --tables.",
        )
    _ask(config, pipeline, Signal(0, "snapshot", tuple(tables or ()), where, reconcile))


@app.command()
def pause(pipeline: PipelineArgument, config: DeclaredOption) -> None:
    """Stop reading tables for now; changes go on being captured."""
    _ask(config, pipeline, Signal(0, "pause"))


@app.command()
def resume(pipeline: PipelineArgument, config: DeclaredOption) -> None:
    """Go on with what was paused."""
    _ask(config, pipeline, Signal(0, "resume"))


@app.command()
def stop(pipeline: PipelineArgument, config: DeclaredOption) -> None:
    """Give up the snapshots that were asked for and are not done."""
    _ask(config, pipeline, Signal(0, "stop"))


def _ask(path: Path, pipeline: str, signal: Signal) -> None:
    config = load_config(path)
    (name,) = chosen(config, [pipeline])
    source = config.pipelines[name].source
    if signal.reconcile and config.pipelines[name].transforms:
        raise no_reconcile(name)
    if not source.connector.signals:
        raise EnsignError(
            "usage.signals_unsupported",
            f"The source of {name} is of the type {source.connector.name}, which takes no signals.",
            "Only a source that reads tables can read them again.",
        )
    with open_configured(config.broker, create=False) as broker:
        if signal.reconcile:
            # What the worker could not see inside of would stop it.
            broker.reader(broker.pipelines.topics(name)).close()
        broker.pipelines.signal(name, signal)
        runs = broker.pipelines.held(name)
    if runs:
        notice(f"The worker of {name} was told; see: ensign status {path}")
    else:
        notice(f"No worker runs {name} now: it will be done at its next run.")
