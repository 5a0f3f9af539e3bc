"""The source ``file``: JSON lines of files that grow, as published events.

Its position holds the place in every file that has been read and is still there, so it resumes
exactly (I3) whichever of them grew, and finds a file again that was renamed meanwhile, by its
inode and first bytes, among the files beside it. Files are taken in turn, known ones before new
ones and new ones by name, so that after a rotation the old file comes to its end first.
"""

from __future__ import annotations

import json
import time
from glob import glob
from pathlib import Path
from typing import NoReturn

from connectors.file.config import FileSourceConfig
from connectors.file.errors import from_os
from connectors.file.tail import Place, Tail, identity
from ensign_core.change import SET_ASIDE, Batch, BatchBuilder, Op, Position, event_schema
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context
from ensign_core.rows import decode, new_image

POLL_S_MAX = 0.1
"""Seconds between two looks at files that had nothing new: files cannot be waited on."""

FILES_MAX = 1000
"""Files that one source follows at once; each costs a descriptor and a line of the position."""

JSON_TYPE = "application/json"


class FileSource:
    """Made by the registry, called by the ingest loop's thread (I1)."""

    def __init__(self, config: FileSourceConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._schema = event_schema(config.topic_name())
        self._tails: list[Tail] = []
        self._at_open: list[Tail] = []

    def open(self, resume: Position | None) -> None:
        if resume:
            self._resume([Place(*fields) for fields in json.loads(resume)])
        self._discover()
        self._at_open = list(self._tails)

    def read(self, timeout_s: float) -> Batch | None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            batch = self._collect()
            left_s = deadline_s - time.monotonic()
            if batch is not None or left_s <= 0:
                return batch
            time.sleep(min(POLL_S_MAX, left_s))  # I2

    def ack(self, position: Position) -> None:
        """Nothing to do: files forget nothing on our word (I4)."""

    def caught_up(self) -> bool:
        return all(tail.seen >= tail.target for tail in self._at_open)

    def close(self) -> None:
        for tail in self._tails:
            tail.close()
        self._tails, self._at_open = [], []

    def _collect(self) -> Batch | None:
        """A round over the files; None if no line was taken. A batch whose lines were all blank or
        malformed has no events and a position all the same."""
        self._discover()
        builder = BatchBuilder()
        room = self._config.batch_bytes_max
        latest = ""
        for tail in list(self._tails):
            # Asked before the file's end is looked for: what is written later is seen.
            superseded = tail.superseded()
            while room > 0:
                start = tail.offset
                lines = tail.take(room, self._config.line_bytes_max)
                if not lines:
                    if superseded:
                        self._drop(tail)
                    break
                room -= tail.offset - start
                latest = f"{tail.path.name}:{tail.line}"
                for number, line in enumerate(lines, tail.line - len(lines) + 1):
                    self._add(builder, line, tail.path, number)
        if not latest:
            return None
        behind = sum(tail.behind() for tail in self._tails)
        self._context.progress(state="streaming", position=latest, lag_bytes=behind)
        places = [tail.place() for tail in self._tails]
        return builder.take(Position(json.dumps(places).encode()))

    def _add(self, builder: BatchBuilder, line: bytes, path: Path, number: int) -> None:
        if not line.strip():
            return
        try:
            body = event_body(line, self._config.key)
        except ValueError:
            self._context.dead_letter(line, _malformed(f"Line {number} of {path}"))
            return
        builder.add(Op.EVENT, self._schema, body)

    def _discover(self) -> None:
        """Open the files that match and are not followed yet; learn the new names of the others."""
        known = {tail.identity: tail for tail in self._tails}
        for path in map(Path, sorted(glob(self._config.path, recursive=True))):
            try:
                if not path.is_file():
                    continue
                tail = known.get(identity(path.stat())) or Tail(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise from_os(error, path) from None
            tail.path = path
            if tail.identity not in known:
                known[tail.identity] = tail
                self._follow(tail)

    def _drop(self, tail: Tail) -> None:
        """Let go of a file that is done, unless its new name matches too: dropped, it would be
        found again and read from its start."""
        self._discover()
        if tail.superseded():
            self._tails.remove(tail)
            tail.close()

    def _resume(self, places: list[Place]) -> None:
        """Find the files of a position again, whatever they are called by now; one that is gone, or
        whose inode is another file's, is left out."""
        by_identity = {identity(path.stat()): path for path in self._neighbours()}
        for place in places:
            path = by_identity.get((place.device, place.inode))
            if path is None:
                continue
            try:
                tail = Tail(path)
            except OSError as error:
                raise from_os(error, path) from None
            if tail.identity == (place.device, place.inode) and tail.resume(place):
                self._follow(tail)
            else:
                tail.close()

    def _neighbours(self) -> list[Path]:
        """The files that match and those beside them, among which a renamed one may be."""
        matches = [Path(name) for name in glob(self._config.path, recursive=True)]
        folders = {path.parent for path in matches} | {Path(self._config.path).parent}
        beside = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
        return [path for path in (*beside, *matches) if path.is_file()]

    def _follow(self, tail: Tail) -> None:
        if len(self._tails) >= FILES_MAX:
            tail.close()
            raise EnsignError(
                "file.too_many",
                f"More than {FILES_MAX} files match {self._config.path}.",
                "Move away those that are done, or split them over several pipelines.",
            )
        self._tails.append(tail)


def event_body(line: bytes, key: str | None) -> bytes:
    """The event that a line is, with the value of its field ``key`` as its key; ValueError if it is
    not JSON."""
    try:
        # Numbers stay text: their digits may be more than Python reads, and the key is text.
        value = json.loads(
            str(line, "utf-8"), parse_int=str, parse_float=str, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError from None
    return new_image([_key(value, key), line, None, JSON_TYPE, None])


def replay(config: FileSourceConfig, batch: Batch) -> Batch:
    """Lines that were set aside, read as the source would read them now; raises
    ``file.line_malformed``. Events that a transform refused are as they were."""
    if SET_ASIDE not in batch.schemas:
        return batch
    builder = BatchBuilder()
    schema = event_schema(config.topic_name())
    for change in batch:
        _, line, *_ = decode(change.body[1:])
        assert isinstance(line, bytes)
        try:
            builder.add(Op.EVENT, schema, event_body(line, config.key))
        except ValueError:
            raise _malformed("The line that was set aside") from None
    return builder.take(None)


def _malformed(what: str) -> EnsignError:
    return EnsignError(
        "file.line_malformed",
        f"{what} is not JSON.",
        "Mend what writes the file; the line is kept among the dead letters.",
    )


def _key(value: object, field: str | None) -> bytes | None:
    if field is None or not isinstance(value, dict):
        return None
    key = value.get(field)
    if isinstance(key, bool):
        return b"true" if key else b"false"
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else None


def _refuse(_name: str) -> NoReturn:
    """``NaN`` and ``Infinity`` are not JSON, though Python reads them."""
    raise ValueError
