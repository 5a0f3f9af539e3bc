"""The command ``ensign``: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ensign_core.cli import pipelines, topics
from ensign_core.cli.demo import demo
from ensign_core.cli.output import EXIT_FAILED, exit_code, show_error
from ensign_core.errors import EnsignError, unexpected

app = typer.Typer(
    name="ensign",
    help="Change data capture into encrypted, persistent, replayable topics, and onward.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(pipelines.check)
app.command()(pipelines.run)
app.command()(pipelines.status)
app.command()(pipelines.drop)
app.command()(topics.read)
app.command()(topics.publish)
app.add_typer(topics.app, name="topics")


@app.callback(invoke_without_command=True)
def options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Change data capture into encrypted, persistent, replayable topics, and onward."""
    if show_version:
        typer.echo(f"ensign {version('ensign')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the command. Whatever goes wrong ends in a code, a sentence and a remedy."""
    try:
        app()
    except EnsignError as error:
        show_error(error)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        # Whoever read our output has enough; keep the interpreter from failing at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001
        show_error(unexpected(error))
        sys.exit(EXIT_FAILED)
