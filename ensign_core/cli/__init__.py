"""The command line: one module per group of commands, `output` for everything that is printed."""

from ensign_core.cli.app import main

__all__ = ["main"]
