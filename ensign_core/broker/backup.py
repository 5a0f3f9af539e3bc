"""A copy of a whole project, made while it is in use, and opened frame by frame before it counts.

A backup is a folder with ``ensign.db``, ``keys.db``, a line for whoever finds it, and the manifest
``backup.json``, which is written last. It has its name only when all of that is on the disk.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ensign_core.broker.partial import made_whole
from ensign_core.broker.vault import Vault
from ensign_core.broker.verify import Problem, Progress, Verified, verify
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.engine.tables import TABLES_VERSION
from ensign_core.errors import EnsignError

FILES = ("ensign.db", "keys.db")
MANIFEST = "backup.json"
MANIFEST_VERSION = 1
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself. ``made_at`` is the moment that it shows, ``kek`` tells which
    key opens it without telling the key, ``tables`` is the version of the engine's tables, and
    ``sha256`` has the digests of `FILES`."""

    version: int
    ensign: str
    project: str
    made_at: str
    tables: int
    kek: str
    topics: int
    frames: int
    events: int
    bytes: int
    sha256: dict[str, str]


def backup(vault: Vault, project: str, folder: Path, progress: Progress) -> Manifest:
    """Make a backup of the project in ``folder``; nobody who appends or reads waits for it. Raises
    ``backup.damaged`` if what was copied does not open, and what `made_whole` says."""
    with made_whole(folder, "backup") as partial:
        made_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        alive = vault.engine.inspection.copy(
            partial,
            lambda done, of: progress("copying", done * PAGE_BYTES, of * PAGE_BYTES),
        )
        found, kek = _opened(partial, vault, alive, progress)
        manifest = Manifest(
            MANIFEST_VERSION, version("ensign"), project, made_at, TABLES_VERSION, kek.hex(),
            found.topics, found.frames, found.events, found.bytes,
            {name: digest(partial / name) for name in FILES},
        )  # fmt: skip
        (partial / "README").write_text(_readme(manifest))
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def _opened(
    partial: Path, vault: Vault, alive: set[bytes], progress: Progress
) -> tuple[Verified, bytes]:
    """Open all that was copied, without the topics that were deleted meanwhile; what was found, and
    the check of the KEK."""
    engine = SqliteEngine(partial)
    try:
        for topic in engine.topics():
            if topic.topic_id not in alive:
                engine.delete_topic(topic.topic_id)
        found = verify(Vault(engine, vault.keys), progress=progress)
        kek = engine.keys.check()
    finally:
        engine.close()
    if found.problems:
        raise damaged("What was copied does not open", found.problems)
    return found, kek


def damaged(what: str, problems: list[Problem]) -> EnsignError:
    """``backup.damaged``, with the first problem's sentence."""
    first = problems[0]
    where = f" (topic {first.topic})" if first.topic else ""
    return EnsignError(
        "backup.damaged",
        f"{what}, {len(problems)} problems; the first: {first.code}{where}: {first.sentence}",
        "See all that is wrong with the project with: ensign verify; nothing of this was kept.",
    )


def digest(file: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _readme(manifest: Manifest) -> str:
    return (
        f"A backup of the Ensign project {manifest.project} as of {manifest.made_at}: `ensign "
        "restore` opens it with the project's key-encryption key, which is not in it; data keys "
        "that are revoked later still are, so destroy it when what they sealed must be unreadable."
        "\n"
    )
