"""The MySQL and MariaDB servers found on this machine: how their programs are run, and a fresh data
folder of each.

What ``.ci/mysql`` unpacks is not installed: those programs run through the loader and on the
libraries that came with them. Servers refuse to run as root, so as root they run as nobody through
``setpriv``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOBODY = 65534
INITIALISE_S_MAX = 60.0

SMALL = ("--innodb-buffer-pool-size=24M", "--lower-case-table-names=0")
INITIAL = {
    "mysql": ("--initialize-insecure", "--skip-log-bin", "--innodb-redo-log-capacity=32M", *SMALL),
    "mariadb": (
        "--bootstrap", "--log-warnings=0", "--skip-log-bin", "--innodb-log-file-size=32M",
        "--innodb-undo-tablespaces=0", "--innodb-use-native-aio=OFF", "--max-allowed-packet=8M",
        *SMALL,
    ),
}  # fmt: skip
"""How each product makes a data folder."""

SCRIPTS = (
    "system_tables.sql", "performance_tables.sql", "system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql", "sys_schema.sql",
)  # fmt: skip
"""Ends of the names of what MariaDB's server is fed when it makes its system tables, in the order
of ``mariadb-install-db``; the help texts are left out."""


@dataclass(frozen=True)
class Programs:
    """One installation. ``root`` is the folder that ``/usr`` is in. ``version`` is what the server
    says of itself, such as ``(11, 8, 9)``."""

    root: Path
    server: Path
    version: tuple[int, ...]

    @property
    def product(self) -> str:
        return "mariadb" if self.server.name == "mariadbd" else "mysql"

    @property
    def name(self) -> str:
        """Product and major version, such as ``mariadb-11``: what tests go by."""
        return f"{self.product}-{self.version[0]}"

    def command(self, program: Path, *args: str) -> list[str]:
        """How a program of this installation is run, as the user who runs the tests."""
        return [*loader(self.root), str(program), *args]

    def as_nobody(self, *args: str) -> list[str]:
        """How the server is run."""
        command = self.command(self.server, *args)
        if os.geteuid() != 0:
            return command
        drop = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return ["setpriv", *drop, "env", "HOME=/nonexistent", "LC_ALL=C.UTF-8", *command]

    @property
    def share(self) -> Path:
        """The folder of messages, charsets and the scripts of system tables."""
        folders = [self.root / "usr" / "share" / name for name in ("mariadb", "mysql")]
        return next(f for f in folders if (f / "charsets").is_dir())

    def folders(self) -> dict[str, str]:
        """The server's settings that say where its own files are."""
        usr = self.root / "usr"
        return {
            "basedir": str(usr),
            "lc_messages_dir": str(self.share),
            "character_sets_dir": str(self.share / "charsets"),
            "plugin_dir": str(usr / "lib" / "mysql" / "plugin"),
        }


def loader(root: Path) -> list[str]:
    """What comes before a program that is not installed."""
    found = sorted(root.glob("usr/lib/*/ld-linux*.so.*"))
    if root == Path("/") or not found:
        return []
    return [str(found[0]), "--library-path", str(found[0].parent)]


@cache
def installations() -> dict[str, Programs]:
    """The servers found on this machine, by name, MariaDB first and the oldest first: the
    distribution's MariaDB and what ``make mysql`` fetched."""
    roots = [Path("/"), *sorted(Path(sys.prefix, "mysql").glob("[a-z]*"))]
    found = [
        Programs(root, server, _version(root, server))
        for root in roots
        for server in (root / "usr/sbin/mariadbd", root / "usr/sbin/mysqld")
        # A distribution's mysqld may be kept by its rules from all folders but its own.
        if server.exists()
        and not server.is_symlink()
        and (server.name, root) != ("mysqld", Path("/"))
    ]
    return {p.name: p for p in sorted(found, key=lambda p: (p.product, p.version))}


def client() -> list[str]:
    """How the newest ``mariadb`` command line client found here is run; nothing where there is
    none."""
    for programs in reversed(installations().values()):
        program = programs.root / "usr" / "bin" / "mariadb"
        if program.exists():
            plugins = sorted(programs.root.glob("usr/lib/*/libmariadb3/plugin"))
            options = [f"--plugin-dir={folder}" for folder in plugins]
            return programs.command(program, "--no-defaults", *options)
    return []


def _version(root: Path, server: Path) -> tuple[int, ...]:
    told = subprocess.run(
        [*loader(root), str(server), "--no-defaults", "--version"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    match = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", told)
    assert match is not None, told
    return tuple(map(int, match.groups()))


def copy_fresh(programs: Programs, data: Path) -> None:
    """Make ``data`` a data folder that nobody has used, owned by whom the server runs as."""
    shutil.copytree(_template(programs), data)
    # It has the server's UUID, which each makes for itself.
    (data / "auto.cnf").unlink(missing_ok=True)
    if os.geteuid() == 0:
        for folder, _, files in os.walk(data):
            os.chown(folder, NOBODY, NOBODY)
            for file in files:
                os.chown(os.path.join(folder, file), NOBODY, NOBODY)


def _template(programs: Programs) -> Path:
    """A data folder that is only copied: it takes seconds to make, so all servers of a version and
    all processes that run tests share one. Whoever comes first makes it while the others wait."""
    options = INITIAL[programs.product]
    told = hashlib.sha256(repr((programs.version, options)).encode()).hexdigest()[:12]
    kept = Path(sys.prefix, "mysql", ".fresh")
    template = kept / f"{programs.name}-{told}"
    if template.exists():
        return template
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / f"{programs.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            with tempfile.TemporaryDirectory(prefix="ensign-my-") as made:
                _initialise(programs, Path(made))
                part = kept / f"{template.name}.part"
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(Path(made, "data"), part)
                part.rename(template)
    return template


def _initialise(programs: Programs, folder: Path) -> None:
    (folder / "data").mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.chown(folder / "data", NOBODY, NOBODY)
    given = {"datadir": str(folder / "data"), "tmpdir": str(folder), **programs.folders()}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    command = programs.as_nobody("--no-defaults", *options, *INITIAL[programs.product])
    statements = b""
    if programs.product == "mariadb":
        statements = _system_tables(programs.share)
    ran = subprocess.run(
        command, input=statements, capture_output=True, timeout=INITIALISE_S_MAX, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{programs.name} makes no data folder: {ran.stderr.decode()}")
    # What tells one server from another is made at its first start.
    (folder / "data" / "auto.cnf").unlink(missing_ok=True)


def _system_tables(share: Path) -> bytes:
    """What MariaDB's server reads in place of connections when it makes its system tables."""
    scripts = [next(iter(sorted(share.glob(f"*{end}")))) for end in SCRIPTS]
    head = b"create database if not exists mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n"
    return head + b"".join(script.read_bytes() for script in scripts)
