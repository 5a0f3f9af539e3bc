"""A project made again from a backup."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ensign_core.broker.backup import FILES, MANIFEST, MANIFEST_VERSION, Manifest, damaged
from ensign_core.broker.broker import Broker
from ensign_core.broker.partial import made_whole
from ensign_core.broker.verify import Progress, silent
from ensign_core.crypto import FileProvider, KeyProvider, KeyRing, default_key_file
from ensign_core.engine.tables import TABLES_VERSION
from ensign_core.errors import EnsignError

CHUNK_BYTES = 4 << 20


def restore(
    folder: str | Path,
    path: str | Path,
    keys: KeyProvider | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make the project of the backup in ``folder`` again in ``path``, where there must be nothing,
    with the key in ``PATH.keys`` unless ``keys`` says otherwise. Every frame is opened before the
    project is there. Raises ``key.missing`` and ``key.wrong`` at once, ``restore.exists``,
    ``backup.not_found``, ``backup.version_unknown`` and ``backup.damaged``; after any of them there
    is nothing in ``path``."""
    source, target, progress = Path(folder), Path(path), progress or silent
    provider = keys or FileProvider(default_key_file(target))
    with made_whole(target, "restore") as partial:
        manifest = read_manifest(source)
        KeyRing(provider, create=False, check=bytes.fromhex(manifest.kek))
        for name in FILES:
            _copy(source / name, partial / name, manifest.sha256[name], progress)
        with Broker.open(partial, provider, create=False) as broker:
            if broker.project != manifest.project:
                raise _unlike(source)
            found = broker.verify(progress=progress)
        if found.problems:
            raise damaged(f"The backup in {source} does not open", found.problems)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What the backup in a folder says of itself."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise EnsignError(
            "backup.not_found",
            f"There is no complete backup in {folder}: it has no {MANIFEST}.",
            "Give a folder that `ensign backup` made.",
        ) from None
    except ValueError:
        raise _unlike(folder) from None
    if not isinstance(found, dict) or not isinstance(found.get("version"), int):
        raise _unlike(folder)
    if found["version"] > MANIFEST_VERSION or found.get("tables", 0) > TABLES_VERSION:
        raise EnsignError(
            "backup.version_unknown",
            f"The backup in {folder} was made by a later Ensign ({found.get('ensign')}).",
            "Restore it with that version, or a later one.",
        )
    try:
        manifest = Manifest(**{name: found[name] for name in Manifest.__annotations__})
        bytes.fromhex(manifest.kek)
        assert manifest.sha256.keys() >= set(FILES)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError):
        raise _unlike(folder) from None
    return manifest


def _copy(source: Path, target: Path, sha256: str, progress: Progress) -> None:
    """Copy a file, if it is the one that the manifest means."""
    seen = hashlib.sha256()
    done, total = 0, source.stat().st_size if source.exists() else 0
    if not total:
        raise _unlike(source.parent)
    with source.open("rb") as reading, target.open("xb") as writing:
        target.chmod(0o600)
        while chunk := reading.read(CHUNK_BYTES):
            seen.update(chunk)
            writing.write(chunk)
            done += len(chunk)
            progress("copying", done, total)
    if seen.hexdigest() != sha256:
        raise _unlike(source.parent)


def _unlike(folder: Path) -> EnsignError:
    return EnsignError(
        "backup.damaged",
        f"The files in {folder} are not as the backup was made: they were changed or damaged.",
        "Take another copy of the backup.",
    )
