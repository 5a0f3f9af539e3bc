"""What `ensign check` looks at before a pipeline with files runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from connectors.file.config import FileSinkConfig, FileSourceConfig
from ensign_core.plugin import Finding


def check_sink(config: FileSinkConfig, _pipeline: str) -> Sequence[Finding]:
    """Whether the folder, or the nearest one above it that exists, can be written to."""
    folder = Path(config.path.partition("{topic}")[0] + "x").absolute().parent
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return [Finding("pass", "file.folder", f"The folder {folder} can be written to.")]
    return [
        Finding(
            "error",
            "file.permission_denied",
            f"The worker cannot write to {folder}.",
            "Give the user that runs the worker permission for it, or choose another path.",
        )
    ]


def check_source(config: FileSourceConfig, _pipeline: str) -> Sequence[Finding]:
    """Whether there are files, and whether all of them can be read."""
    paths = glob(config.path, recursive=True)
    unreadable = [path for path in paths if not os.access(path, os.R_OK)]
    if unreadable:
        return [
            Finding(
                "error",
                "file.permission_denied",
                f"The worker cannot read {unreadable[0]}.",
                "Give the user that runs the worker permission for it.",
            )
        ]
    if not paths:
        return [
            Finding(
                "warning",
                "file.nothing_matches",
                f"No file matches {config.path} yet.",
                "Check the path; the source waits for the file to appear.",
            )
        ]
    return [Finding("pass", "file.readable", f"{len(paths)} files match and can be read.")]
