"""The file connector: crashes, full disks, rotation, files that grow and move."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from connectors.file.check import check_sink, check_source
from connectors.file.config import FileSinkConfig, FileSourceConfig
from connectors.file.errors import from_os
from connectors.file.output import TAIL_BLOCK_BYTES
from connectors.file.sink import FileSink
from connectors.file.source import FileSource
from connectors.file.tail import Tail
from ensign_core.change import Batch, Position
from ensign_core.errors import EnsignError
from ensign_core.rows import named
from tests.conformance.driver import RecordingContext, drain, sample


def sink(path: Path | str, **options: object) -> FileSink:
    config = FileSinkConfig.model_validate({"type": "file", "path": str(path), **options})
    opened = FileSink(config, RecordingContext())
    opened.open()
    return opened


def offsets(path: Path) -> list[int]:
    return [json.loads(line)["offset"] for line in path.read_bytes().splitlines()]


def test_each_topic_has_its_file(tmp_path: Path) -> None:
    with closing(sink(tmp_path / "new" / "{topic}.jsonl")) as files:
        files.write(sample("first", 0, 3))
        files.write(sample("second", 7, 2))
        files.flush()
    assert offsets(tmp_path / "new" / "first.jsonl") == [0, 1, 2]
    assert offsets(tmp_path / "new" / "second.jsonl") == [7, 8]
    with closing(sink(tmp_path / "{topic}" / "x")) as files, pytest.raises(EnsignError) as caught:
        files.write(sample("..", 0, 2))
    assert caught.value.code == "file.topic_not_a_name"


def test_a_template_knows_topic_only() -> None:
    with pytest.raises(ValueError, match="only placeholder"):
        FileSinkConfig(type="file", path="{table}.jsonl")


@pytest.mark.parametrize("torn", [b'{"offset":5', b"x" * (3 * TAIL_BLOCK_BYTES + 1)])
@pytest.mark.parametrize("whole", [b"", b'{"offset":0}\n'])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, whole: bytes, torn: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole + torn)
    with closing(sink(path)) as file:
        file.write(sample("first", 5, 2))
        file.flush()
    assert offsets(path) == [0] * bool(whole) + [5, 6]


def test_a_full_file_is_renamed_and_never_touched_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with closing(sink(path, rotate_bytes_max=500)) as file:
        for start in range(0, 30, 5):
            file.write(sample("first", start, 5))
        file.flush()
        rotated = sorted(tmp_path.glob("out.*.jsonl"))
        before = [p.read_bytes() for p in rotated]
        file.write(sample("first", 30, 5))
        file.flush()
    assert [p.name for p in rotated][:2] == ["out.000001.jsonl", "out.000002.jsonl"]
    assert [p.read_bytes() for p in rotated] == before
    parts = sorted(tmp_path.glob("out.*.jsonl"))
    assert [o for p in [*parts, path] for o in offsets(p)] == list(range(35))
    (tmp_path / "out.000007.jsonl").touch()
    with closing(sink(path, rotate_bytes_max=1)) as file:
        file.write(sample("first", 35, 5))
    assert offsets(tmp_path / "out.000008.jsonl")[-1] == 39


def test_an_old_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with closing(sink(path, rotate_s_max=60)) as file:
        file.write(sample("first", 0, 2))
        now_s[0] += 59
        file.flush()
        assert not list(tmp_path.glob("out.*.jsonl"))
        now_s[0] += 1
        file.flush()
        assert offsets(tmp_path / "out.000001.jsonl") == [0, 1]
        now_s[0] += 600
        file.flush()
        assert not (tmp_path / "out.000002.jsonl").exists(), "an empty file stays"


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with closing(sink(path)) as one, closing(sink(path)) as other:
        one.write(sample("first", 0, 2))
        with pytest.raises(EnsignError) as caught:
            other.write(sample("first", 0, 2))
        assert caught.value.code == "file.busy"


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a write that the system cut short fails; the next worker mends the torn line."""
    path = tmp_path / "out.jsonl"
    whole = os.write
    room = [400]

    def write(fd: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space left")
        written = whole(fd, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with closing(sink(path)) as file, pytest.raises(EnsignError) as caught:
        file.write(sample("first", 0, 10))
    assert caught.value.code == "file.disk_full"
    assert not path.read_bytes().endswith(b"\n")
    monkeypatch.undo()
    with closing(sink(path)) as file:
        file.write(sample("first", 0, 10))
        file.flush()
    assert list(dict.fromkeys(offsets(path))) == list(range(10))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "file.permission_denied"),
        (errno.EPERM, "file.permission_denied"),
        (errno.ENOSPC, "file.disk_full"),
        (errno.EDQUOT, "file.disk_full"),
        (errno.EROFS, "file.read_only"),
        (errno.EIO, "file.failed"),
    ],
)
def test_errors_are_told_apart_by_errno(number: int, code: str) -> None:
    assert from_os(OSError(number, "text"), Path("x")).code == code


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with closing(sink(tmp_path)) as file, pytest.raises(EnsignError) as caught:
        file.write(sample("first", 0, 2))
    assert caught.value.code == "file.not_a_file"


def test_checks(tmp_path: Path) -> None:
    inside = FileSinkConfig(type="file", path=str(tmp_path / "new" / "{topic}" / "x"))
    assert [f.level for f in check_sink(inside, "p")] == ["pass"]
    (tmp_path / "file").touch()
    through = FileSinkConfig(type="file", path=str(tmp_path / "file" / "x"))
    assert [f.level for f in check_sink(through, "p")] == ["error"]
    source_config = FileSourceConfig(type="file", path=str(tmp_path / "*.jsonl"))
    assert [f.code for f in check_source(source_config, "p")] == ["file.nothing_matches"]
    (tmp_path / "a.jsonl").touch()
    assert [f.level for f in check_source(source_config, "p")] == ["pass"]


class Lines:
    """A source on a path, with what it has read."""

    def __init__(self, path: Path, **options: object) -> None:
        self.config = FileSourceConfig.model_validate(
            {"type": "file", "path": str(path), **options}
        )
        self.context = RecordingContext()
        self.source = FileSource(self.config, self.context)
        self.position: Position | None = None
        self.rows: list[dict[str, object]] = []

    def open(self) -> Lines:
        self.source.open(self.position)
        return self

    def restart(self) -> Lines:
        """A new worker from the last position."""
        self.source.close()
        self.source = FileSource(self.config, self.context)
        return self.open()

    def read(self) -> list[bytes]:
        """The data of what is new."""
        return [data for batch in drain(self.source) for data in self._take(batch)]

    def _take(self, batch: Batch) -> Iterator[bytes]:
        self.position = batch.position
        for change in batch:
            row = named(change.schema.columns, change.images()[1] or b"")
            self.rows.append(dict(row))
            data = row["data"]
            assert isinstance(data, bytes)
            yield data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.jsonl"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_lines_become_events(path: Path) -> None:
    append(path, b'{"id": "a"}\n\n  \r\n{"id": 12345678901234567890}\n[1]\n"text"\n{"id": true}\n')
    lines = Lines(path, key="id").open()
    assert lines.read() == [
        b'{"id": "a"}', b'{"id": 12345678901234567890}', b"[1]", b'"text"', b'{"id": true}',
    ]  # fmt: skip
    keys = [b"a", b"12345678901234567890", None, None, b"true"]
    assert [row["key"] for row in lines.rows] == keys
    assert {row["mimetype"] for row in lines.rows} == {"application/json"}
    lines.source.close()


def test_half_a_line_waits_for_its_rest(path: Path) -> None:
    append(path, b'{"a": 1}\n{"a"')
    lines = Lines(path).open()
    assert lines.read() == [b'{"a": 1}']
    assert lines.restart().read() == []
    append(path, b": 2}")
    assert lines.read() == []
    append(path, b"\n")
    assert lines.read() == [b'{"a": 2}']
    lines.source.close()


@pytest.mark.parametrize("bad", [b"{broken", b"\xff", b"NaN", b'"\x01"', b"[" * 100_000])
def test_what_is_not_json_goes_to_the_dead_letters(path: Path, bad: bytes) -> None:
    append(path, b"1\n" + bad + b"\n2\n")
    lines = Lines(path).open()
    assert lines.read() == [b"1", b"2"]
    ((event, error),) = lines.context.dead
    assert (event, error.code) == (bad, "file.line_malformed")
    assert "Line 2 of " in error.sentence
    lines.source.close()


def test_dead_letters_alone_move_the_position(path: Path) -> None:
    append(path, b"{broken\n")
    lines = Lines(path).open()
    assert lines.read() == []
    assert lines.position is not None
    assert lines.restart().read() == []
    assert len(lines.context.dead) == 1
    lines.source.close()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("pattern", ["app.jsonl", "app*"])
def test_rotation_by_renaming(path: Path, pattern: str, restart: bool) -> None:
    """What comes into the old file before and after it is renamed is read, and only once."""
    append(path, b"1\n2\n")
    lines = Lines(path.with_name(pattern)).open()
    assert lines.read() == [b"1", b"2"]
    append(path, b"3\n")
    path.rename(path.with_name("app.jsonl.1"))
    append(path.with_name("app.jsonl.1"), b"4\n")
    append(path, b"5\n")
    assert (lines.restart() if restart else lines).read() == [b"3", b"4", b"5"]
    append(path, b"6\n")
    assert (lines.restart() if restart else lines).read() == [b"6"]
    path.rename(path.with_name("app.jsonl.2"))
    append(path, b"7\n")
    assert (lines.restart() if restart else lines).read() == [b"7"]
    lines.source.close()


@pytest.mark.parametrize("pattern", ["app.jsonl", "app*"])
@pytest.mark.parametrize("moment", ["superseded", "take"])
def test_a_rotation_at_the_worst_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, moment: str
) -> None:
    """The last line and the new name come just before, or just after, the source looks."""
    append(path, b"1\n")
    lines = Lines(path.with_name(pattern)).open()
    assert lines.read() == [b"1"]
    looks: Callable[..., object] = getattr(Tail, moment)
    rotated = False

    def rotate() -> None:
        nonlocal rotated
        rotated = True
        append(path, b"2\n")
        path.rename(path.with_name("app.jsonl.1"))
        append(path, b"3\n")

    def look(tail: Tail, *limits: int) -> object:
        if moment == "superseded" and not rotated:
            rotate()
        found = looks(tail, *limits)
        if moment == "take" and not rotated:
            rotate()
        return found

    monkeypatch.setattr(Tail, moment, look)
    assert lines.read() == [b"2", b"3"]
    append(path, b"4\n")
    assert lines.read() == [b"4"]
    assert lines.restart().read() == []
    lines.source.close()


def test_a_deleted_file_is_read_to_its_end(path: Path) -> None:
    append(path, b"1\n2\n")
    lines = Lines(path, batch_bytes_max=1).open()
    first = lines.source.read(0)
    assert first is not None
    assert len(first) == 1
    path.unlink()
    append(path, b"3\n")
    assert lines.read() == [b"2", b"3"]
    lines.source.close()


def test_a_file_written_anew_is_read_from_its_start(path: Path) -> None:
    append(path, b"1\n2\n")
    lines = Lines(path).open()
    assert lines.read() == [b"1", b"2"]
    os.truncate(path, 0)
    append(path, b"3\n")
    assert lines.read() == [b"3"]
    path.write_bytes(b"4\n55555555\n")
    assert lines.restart().read() == [b"4", b"55555555"], "same inode, other bytes"
    lines.source.close()


def test_several_files_grow_at_once(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        append(tmp_path / name, f'"{name}1"\n'.encode())
    lines = Lines(tmp_path / "*.jsonl").open()
    assert lines.read() == [b'"a.jsonl1"', b'"b.jsonl1"']
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        append(tmp_path / name, f'"{name}2"\n'.encode())
    assert lines.restart().read() == [b'"a.jsonl2"', b'"b.jsonl2"', b'"c.jsonl2"']
    lines.source.close()


def test_a_file_that_comes_later_is_waited_for(path: Path) -> None:
    lines = Lines(path).open()
    assert lines.source.caught_up()
    writer = threading.Timer(0.05, append, (path, b"1\n"))
    writer.start()
    batch = lines.source.read(30)
    writer.join()
    assert batch is not None
    assert len(batch) == 1
    lines.source.close()


def test_a_line_that_never_ends_is_an_error(path: Path) -> None:
    append(path, b"1\n" + b"x" * 5000)
    lines = Lines(path, line_bytes_max=4000, batch_bytes_max=2).open()
    assert lines.source.read(0) is not None
    with pytest.raises(EnsignError) as caught:
        lines.source.read(0)
    assert caught.value.code == "file.line_too_long"
    lines.source.close()


def test_the_topic_follows_from_the_path() -> None:
    for where, topic in (
        ("/in/orders.2026.jsonl", "orders"), ("in/orders-*.jsonl", "orders"), ("*.jsonl", "file"),
        ("[ab]clicks", "clicks"),
    ):  # fmt: skip
        assert FileSourceConfig(type="file", path=where).topic_name() == topic
    assert FileSourceConfig(type="file", path="x", topic="t").topic_name() == "t"
