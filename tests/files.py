"""What lies in the files of a folder."""

from __future__ import annotations

from pathlib import Path


def holders(folder: Path, wanted: bytes) -> list[str]:
    """The files below a folder, whatever they are for, that hold some bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files if wanted in path.read_bytes()]
