"""Apache Kafka as ``.ci/kafka`` fetched it: how its programs are run, and a fresh data folder."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from tests.services.ready import wait_until

READY_S_MAX = 60.0
FAST = ("-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
"""What lets a small server start soon: nobody looks for its speed once it has run for long."""
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"

STORAGE = "kafka.tools.StorageTool"
SERVER = "kafka.Kafka"


@cache
def jars() -> list[str]:
    """The classpath, empty where there is no Kafka on this machine."""
    if shutil.which("java") is None:
        return []
    folder = Path(sys.prefix, "kafka", "jars").resolve()
    found = sorted(map(str, folder.glob("*.jar")))
    return found if any("/kafka_2" in jar for jar in found) else []


def command(program: str, *args: str, options: Iterable[str] = ()) -> list[str]:
    """The command line of a program of Kafka."""
    return ["java", *FAST, QUIET, *options, "-cp", ":".join(jars()), program, *args]


def properties(settings: Mapping[str, str]) -> str:
    """The text of a configuration file; a value's line ends and backslashes are escaped."""
    lines = []
    for name, value in settings.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{name}={escaped}\n")
    return "".join(lines)


def listens(port: int) -> bool:
    """Whether somebody answers on a port of 127.0.0.1."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def fresh_cluster(data: Path, settings: Mapping[str, str], users: Mapping[str, str]) -> list[str]:
    """Make ``data`` a formatted folder of a cluster that nobody has used, with these users of SCRAM
    and an identity of its own; options of Java for its server."""
    template = _template(settings, users)
    shutil.copytree(template / "data", data)
    meta = data / "meta.properties"
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    kept = [line for line in meta.read_text().splitlines() if not line.startswith("cluster.id=")]
    meta.write_text("\n".join([*kept, f"cluster.id={identity}", ""]))
    return [f"-XX:SharedArchiveFile={template / 'classes.jsa'}"]


def _template(settings: Mapping[str, str], users: Mapping[str, str]) -> Path:
    """A formatted folder that is only copied, and an archive of the classes that a server loads
    (it halves the start): both take seconds to make, so all processes that run tests share them.
    Whoever comes first makes them while the others wait."""
    java = subprocess.run(["java", "-version"], capture_output=True, check=True).stderr
    told = repr((jars(), java, FAST, sorted(users.items())))
    kept = Path(jars()[0]).parents[1] / ".fresh"
    template = kept / hashlib.sha256(told.encode()).hexdigest()[:12]
    if template.exists():
        return template
    kept.mkdir(exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            part = kept / f"{template.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            with tempfile.TemporaryDirectory(prefix="ensign-kafka-") as made:
                _make_template(Path(made), settings, users, part)
            part.rename(template)
    return template


def _make_template(
    made: Path, settings: Mapping[str, str], users: Mapping[str, str], part: Path
) -> None:
    """Format a folder, copy it to ``part``, and run a server on it for its classes."""
    given = {**settings, "log.dirs": str(made / "data")}
    (made / "server.properties").write_text(properties(given))
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    added = [
        f"--add-scram={mechanism}=[name={name},password={password},iterations=4096]"
        for name, password in users.items()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    ]
    file = str(made / "server.properties")
    _run(command(STORAGE, "format", "-t", identity, "-c", file, *added))
    shutil.copytree(made / "data", part / "data")
    archive = f"-XX:ArchiveClassesAtExit={part / 'classes.jsa'}"
    with (made / "log").open("wb") as log:
        server = subprocess.Popen(command(SERVER, file, options=[archive]), stdout=log, stderr=log)
    try:
        port = int(settings["listeners"].split(",")[0].rpartition(":")[2])
        wait_until(lambda: listens(port) or server.poll() is not None, READY_S_MAX, 0.05)
        server.terminate()
        server.wait(READY_S_MAX)
    finally:
        server.kill()
        server.wait()
    if not (part / "classes.jsa").exists():
        raise RuntimeError((made / "log").read_text(errors="replace"))


def _run(line: list[str]) -> None:
    ran = subprocess.run(line, capture_output=True, text=True, timeout=READY_S_MAX, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stdout + ran.stderr)
