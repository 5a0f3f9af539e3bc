"""The sqlite engine where things go wrong: full disks, damage, zombies, killed processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ensign_core.change import Stage
from ensign_core.crypto import DataKey
from ensign_core.engine import StaleWriteError, Write
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from tests.processes import Process, Processes

Start = Callable[..., Process]
TOPIC, KEY = b"t" * 16, b"k" * 16

PRELUDE = """
import sys
from pathlib import Path
from ensign_core.engine import Write
from ensign_core.engine.sqlite import SqliteEngine
engine = SqliteEngine(Path(sys.argv[1]))
"""


def write(events: int = 1, frame: bytes = b"frame", time_us: int = 0) -> Write:
    return Write(TOPIC, "t", KEY, events, time_us, frame)


@pytest.fixture
def python() -> Iterator[Callable[..., Process]]:
    """Starts processes that have an engine of their own."""
    with Processes() as processes:
        yield lambda script, *arguments: processes.start(PRELUDE + script, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "b"


@pytest.fixture
def engine(folder: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(folder)
    made.keys.add([DataKey(KEY, TOPIC, b"wrapped", 0, "active")])
    yield made
    made.close()


def offsets(engine: SqliteEngine) -> list[tuple[int, int]]:
    return [(s.offset, s.events) for s in engine.frames([TOPIC], 0, 1 << 30)]


def test_a_full_disk_is_told_and_leaves_everything_as_it_was(engine: SqliteEngine) -> None:
    epoch = engine.pipelines.claim("p")
    engine.append([write(2)], {}, epoch, b"first", kept={"x": b"first", "y": b"first"})
    db = engine.database.connection()
    (pages,) = next(db.execute("PRAGMA page_count"))
    db.execute(f"PRAGMA max_page_count = {pages + 1}")
    for frame_bytes, piece_bytes in ((200_000, 1), (1, 200_000)):
        frame, pieces = bytes(frame_bytes), {"x": b"", "y": bytes(piece_bytes)}
        with pytest.raises(EnsignError) as raised:
            engine.append([write(3, frame)], {7: b"schema"}, epoch, b"second", kept=pieces)
        assert raised.value.code == "engine.disk_full"
        assert (offsets(engine), engine.pipelines.position("p")) == ([(0, 2)], b"first")
        assert engine.pipelines.kept("p") == {"x": b"first", "y": b"first"}
    assert engine.schema(7) is None
    db.execute("PRAGMA max_page_count = 1000000")
    assert engine.append([write(3, bytes(200_000))], {}, epoch, b"second") == [2]
    assert (offsets(engine), engine.pipelines.position("p")) == ([(0, 2), (2, 3)], b"second")


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_disk_that_is_really_full_is_told_at_every_size(small_disk: Path) -> None:
    """What fails may be the log, its index or a database file: always the same code."""
    filler = small_disk / "filler"
    engine = SqliteEngine(small_disk / "b")
    engine.keys.add([DataKey(KEY, TOPIC, b"wrapped", 0, "active")])
    epoch = engine.pipelines.claim("p")
    done, failures = 0, 0
    for size in range(1000, 60_000, 3000):
        free = os.statvfs(small_disk).f_bavail * 4096
        filler.write_bytes(bytes(max(0, free - size)))
        for _ in range(3):
            try:
                engine.append([write(1, os.urandom(40_000))], {}, epoch, b"%d" % (done + 1))
            except EnsignError as error:
                assert_code(error, "engine.disk_full")
                failures += 1
            else:
                done += 1
        assert engine.pipelines.position("p") == (b"%d" % done if done else None)
        filler.unlink()
        if done > 5:
            engine.delete_topic(TOPIC)
            engine.keys.add([DataKey(KEY, TOPIC, b"wrapped", 0, "active")])
            engine.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            engine.database.connection().execute("VACUUM main")
            engine.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.append([write(1, os.urandom(40_000))], {}, epoch, b"last")
    assert engine.pipelines.position("p") == b"last"
    assert failures > 5
    engine.close()


def assert_code(error: EnsignError, code: str) -> None:
    assert error.code == code


@pytest.mark.parametrize("name", ["ensign.db", "keys.db"])
def test_a_damaged_file_is_told(folder: Path, engine: SqliteEngine, name: str) -> None:
    engine.append([write()], {})
    engine.close()
    (folder / name).write_bytes(b"no database at all" * 1000)
    with pytest.raises(EnsignError) as raised:
        SqliteEngine(folder)
    assert raised.value.code == "engine.damaged"


def test_a_damaged_page_is_told(folder: Path, engine: SqliteEngine) -> None:
    for _ in range(50):
        engine.append([write(1, bytes(5000))], {})
    engine.close()
    size = (folder / "ensign.db").stat().st_size
    with (folder / "ensign.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(EnsignError) as raised, closing(SqliteEngine(folder)) as again:
        again.append([write()], {})
    assert raised.value.code == "engine.damaged"


def test_a_file_in_place_of_the_folder_is_told(folder: Path) -> None:
    folder.write_text("")
    for path in (folder, folder / "below"):
        with pytest.raises(EnsignError) as raised:
            SqliteEngine(path)
        assert raised.value.code == "engine.not_writable"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    for part in (tmp_path, *tmp_path.parents[:3]):
        part.chmod(0o755)
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom ensign_core.errors import EnsignError\n"
        "from ensign_core.engine.sqlite import SqliteEngine\nos.setuid(65534)\n"
        "for name in ('theirs', 'theirs/below'):\n"
        "    try: SqliteEngine(Path(sys.argv[1], name))\n"
        "    except EnsignError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["engine.not_writable"] * 2


def test_the_folder_is_for_its_owner_only(folder: Path, engine: SqliteEngine) -> None:
    engine.bell().close()
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("ensign.db", "keys.db"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_zombie_is_fenced(engine: SqliteEngine) -> None:
    old = engine.pipelines.claim("p")
    engine.append([write()], {}, old, None, Stage.HOLD)
    new = engine.pipelines.claim("p")
    for stage in Stage:
        with pytest.raises(EnsignError) as raised:
            engine.append([write()], {}, old, b"zombie", stage, {"x": b"zombie"})
        assert raised.value.code == "pipeline.fenced"
    assert engine.append([write()], {}, new, b"new", Stage.RELEASE) == [0]
    assert (offsets(engine), engine.pipelines.position("p")) == ([(0, 1)], b"new")
    assert engine.pipelines.kept("p") == {}


def test_what_was_held_for_a_deleted_topic_does_not_reach_its_successor(
    engine: SqliteEngine,
) -> None:
    epoch = engine.pipelines.claim("p")
    engine.append([write(3, b"held")], {}, epoch, None, Stage.HOLD)
    engine.delete_topic(TOPIC)
    successor = Write(b"u" * 16, "t", b"l" * 16, 1, 0, b"new")
    engine.keys.add([DataKey(b"l" * 16, b"u" * 16, b"wrapped", 0, "active")])
    assert engine.append([successor], {}, epoch, b"end", Stage.RELEASE) == [0]
    assert [s.frame for s in engine.frames([b"u" * 16], 0, 1 << 20)] == [b"new"]


def test_an_archived_topic_takes_nothing(engine: SqliteEngine) -> None:
    engine.append([write()], {})
    engine.database.connection().execute("UPDATE topics SET state = 'archived'")
    with pytest.raises(EnsignError) as raised:
        engine.append([write()], {})
    assert raised.value.code == "topic.archived"
    assert offsets(engine) == [(0, 1)]


@pytest.mark.parametrize("state", ["retired", "revoked"])
def test_a_key_that_is_not_active_seals_nothing(engine: SqliteEngine, state: str) -> None:
    engine.database.connection().execute("UPDATE keys.data_keys SET state = ?", (state,))
    with pytest.raises(StaleWriteError):
        engine.append([write()], {})
    assert engine.topics() == []


APPENDING = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    engine.append([Write(b"t" * 16, "t", b"k" * 16, 3, 0, b"x" * 100)], {})
"""


def test_processes_and_threads_append_at_once(
    folder: Path, engine: SqliteEngine, python: Start
) -> None:
    processes = [python(APPENDING, folder, 40) for _ in range(3)]
    assert [process.line() for process in processes] == ["ready"] * 3
    for process in processes:
        process.go()
    threads = [
        threading.Thread(target=lambda: [engine.append([write(3)], {}) for _ in range(40)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.wait() == 0
    assert offsets(engine) == [(3 * number, 3) for number in range(200)]


KILLED = """
epoch = engine.pipelines.claim("p")
number = int(engine.pipelines.position("p") or 0)
while True:
    number += 1
    frame = b"%d" % number
    writes = [Write(b"t" * 16, "t", b"k" * 16, 1 + number % 3, 0, frame + bytes(3000))]
    engine.append(writes, {}, epoch, b"%d" % number, kept={"x": b"%d" % number, "y": bytes(9000)})
    print(number, flush=True)
"""


def test_a_process_killed_amid_appends_leaves_a_prefix(
    folder: Path, engine: SqliteEngine, python: Start
) -> None:
    told = 0
    for round_ in range(4):
        process = python(KILLED, folder)
        for _ in range(5 + 7 * round_):
            told = int(process.line())
        process.kill()
        position = int(engine.pipelines.position("p") or 0)
        assert position >= told, "what was told as synced is there"
        assert engine.pipelines.kept("p") == {"x": b"%d" % position, "y": bytes(9000)}
        stored = engine.frames([TOPIC], 0, 1 << 30)
        assert [int(s.frame.rstrip(b"\0")) for s in stored] == list(range(1, position + 1))
        following = 0
        for frame in stored:
            assert frame.offset == following, "offsets are dense"
            following += frame.events
        assert [topic.next_offset for topic in engine.topics()] == [following]
    assert list(engine.database.connection().execute("PRAGMA integrity_check")) == [("ok",)]


HOLDING = """
release = engine.pipelines.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_running_pipeline_is_not_run_twice(
    folder: Path, engine: SqliteEngine, python: Start
) -> None:
    process = python(HOLDING, folder, "p")
    assert process.line() == "held"
    assert engine.pipelines.held("p")
    with pytest.raises(EnsignError) as raised:
        engine.pipelines.hold("p")
    assert (raised.value.code, str(process.pid) in raised.value.sentence) == (
        "pipeline.running", True
    )  # fmt: skip
    engine.pipelines.hold("q")()
    process.kill()
    assert not engine.pipelines.held("p")
    release = engine.pipelines.hold("p")
    with pytest.raises(EnsignError, match=r"^pipeline\.running"):
        engine.pipelines.hold("p")
    release()
    assert not engine.pipelines.held("p")
    assert not engine.pipelines.held("never seen")


def test_connections_of_ended_threads_are_closed(engine: SqliteEngine) -> None:
    engine.append([write()], {})
    this = psutil.Process()
    before = this.num_fds()
    for _ in range(20):
        thread = threading.Thread(target=engine.topics)
        thread.start()
        thread.join()
    assert this.num_fds() <= before + 3


def test_files_are_few_and_let_go(folder: Path, engine: SqliteEngine) -> None:
    open_files = []
    for _ in range(10):
        other = SqliteEngine(folder)
        other.bell().close()
        assert other.topics() == []
        other.close()
        open_files.append(psutil.Process().num_fds())
    assert open_files[-1] == open_files[1]


def test_opening_at_once_makes_one_database(tmp_path: Path, python: Start) -> None:
    script = "engine.set_meta({'project': sys.argv[2].encode()}); print(engine.meta()['project'])"
    processes = [python(script, tmp_path / "new", number) for number in range(6)]
    assert len({process.line() for process in processes}) == 1
    assert [process.wait() for process in processes] == [0] * 6


def test_data_without_its_keys_is_refused(folder: Path, engine: SqliteEngine) -> None:
    engine.set_meta({"kek": b"check"})
    engine.close()
    (folder / "keys.db").unlink()
    with pytest.raises(EnsignError) as raised:
        SqliteEngine(folder)
    assert raised.value.code == "key.missing"
