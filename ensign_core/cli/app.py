"""The command ``ensign``: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ensign_core.cli import backup, dead_letters, grants, keys, pipelines, snapshot, topics
from ensign_core.cli.demo import demo
from ensign_core.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    exit_code,
    show_error,
)
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
app.command()(backup.backup)
app.command("restore")(backup.restore_backup)
app.command()(backup.verify)
app.add_typer(topics.app, name="topics")
app.add_typer(grants.app, name="grants")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")


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
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]  # all that the parser raises have it
        return EXIT_USAGE
    except typer.Abort:
        return EXIT_INTERRUPTED
    except SystemExit:
        # Only for a reader of our output that has gone, which is its business.
        return _quiet()
    except EnsignError as error:
        show_error(error)
        return exit_code(error)
    except BrokenPipeError:
        return _quiet()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001
        show_error(_unwritable(error) or unexpected(error))
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _quiet() -> int:
    """Whoever read our output has enough; keep the interpreter from failing at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _unwritable(error: Exception) -> EnsignError | None:
    """The error for a standard output that takes no more, such as a file on a full disk."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    _quiet()
    return EnsignError(
        "output.failed",
        f"Standard output cannot be written: {error.strerror}.",
        "Make room, or send the output somewhere else.",
    )
