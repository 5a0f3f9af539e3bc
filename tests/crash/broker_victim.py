"""The process that lives a part of a history, and is killed in it.

It is forked from the one that checks, so that no interpreter is started. The seams are those that
SQLite offers: its calls of the operating system (through a VFS that lies on the usual one), the
statements, the hook before a commit. The product has no switches for them.
"""

from __future__ import annotations

import os
import signal
import struct
import time
import traceback
from collections import defaultdict
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import apsw

from ensign_core.broker import Broker, Writer
from ensign_core.change import BatchBuilder, Op, Position, Stage, Tx, event_schema
from ensign_core.errors import EnsignError
from tests.crash.broker_model import Frames, seen
from tests.crash.histories import OLD_S, PIPELINE, Kill, Life, Seam, Step

CLEAN = 1 << 62
"""No byte of the log waits for a sync."""


def end() -> NoReturn:
    """Die as a process does that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


class Seams:
    """Counts what is come by, once armed; ``unsynced`` is shared with the process that checks: from
    which byte on the log is not synced."""

    def __init__(self, kill: Kill, unsynced: mmap) -> None:
        self._kill = kill
        self._left = kill.count
        self.armed = False
        self._unsynced = unsynced
        self._low = CLEAN

    def due(self, seam: Seam) -> bool:
        if not self.armed or seam != self._kill.seam:
            return False
        self._left -= 1
        return self._left < 0

    def cut(self, data: bytes) -> bytes:
        """How much of a write is written that is broken off."""
        return bytes(data)[: int(len(data) * self._kill.part)]

    @property
    def before(self) -> bool:
        return self._kill.part < 0.5

    def written(self, offset: int) -> None:
        self._low = min(self._low, offset)
        struct.pack_into("q", self._unsynced, 0, self._low)

    def synced(self) -> None:
        self._low = CLEAN
        struct.pack_into("q", self._unsynced, 0, self._low)

    def statement(self, _cursor: object, _sql: str, _values: object) -> bool:
        if self.due("statement"):
            end()
        return True

    def committing(self) -> bool:
        if self.due("commit"):
            end()
        return False


class _File(apsw.VFSFile):
    def __init__(self, seams: Seams, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._log = path.endswith("-wal")
        self._seams = seams

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - as SQLite calls it
        if self._log:
            self._seams.written(offset)
        if self._seams.due("write"):
            super().xWrite(self._seams.cut(data), offset)
            end()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._seams.due("sync"):
            end()
        super().xSync(flags)
        if self._log:
            self._seams.synced()


class Disk(apsw.VFS):
    """The usual one, with seams."""

    def __init__(self, seams: Seams) -> None:
        super().__init__("seams", "unix", makedefault=True)
        self._seams = seams

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802
        return _File(self._seams, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        due = self._seams.due("delete")
        if due and self._seams.before:
            end()
        super().xDelete(name, sync)
        if due:
            end()


class Victim:
    """Does the steps of a life, and tells of each that it begins and what came of it."""

    def __init__(self, folder: Path, life: Life, teller: Connection, unsynced: mmap) -> None:
        self._folder = folder
        self._life = life
        self._teller = teller
        self._writer: Writer | None = None
        self._kill = life.kill
        self._seams = Seams(life.kill, unsynced) if life.kill is not None else None
        self._disk = Disk(self._seams) if self._seams is not None else None

    def run(self) -> None:
        self._arm(-1)
        self._tell("begun", -1, None)
        self._broker = Broker.open(self._folder, keep_every_s=1e6)
        if self._seams is not None and self._kill is not None:
            db = self._broker._engine.database.connection()
            if self._kill.seam == "statement":
                db.set_exec_trace(self._seams.statement)
            db.set_commit_hook(self._seams.committing)
        self._tell("done", -1, None)
        for number, step in enumerate(self._life.steps):
            self._arm(number)
            self._tell("begun", number, self._before(step))
            try:
                result = self._do(step)
            except EnsignError as error:
                if step.piped:
                    self._writer = None
                self._tell("refused", number, error.code)
            else:
                self._tell("done", number, result)
        if self._kill is not None:
            end()
        self._broker.close()

    def _tell(self, what: str, number: int, told: object) -> None:
        self._teller.send((what, number, told))

    def _arm(self, number: int) -> None:
        if self._seams is not None and self._kill is not None and number >= self._kill.at:
            self._seams.armed = True

    def _before(self, step: Step) -> Frames | None:
        """The frames that there are, with their sizes, where it matters which are trimmed."""
        if step.kind != "keep":
            return None
        engine = self._broker._engine
        return {
            topic.name: [
                (one.offset, one.events, len(one.frame))
                for one in engine.frames([topic.topic_id], 0, 1 << 30)
            ]
            for topic in engine.topics()
        }

    def _do(self, step: Step) -> object:
        broker = self._broker
        match step.kind:
            case "policy":
                assert step.policy is not None
                broker.create_topic(step.topic, step.policy)
                broker.set_policy(step.topic, step.policy)
            case "append":
                self._append(step)
            case "publish":
                publisher = broker.publisher()
                sent = [publisher.send(item.topic, item.event) for item in step.items]
                for receipt in sent:
                    receipt.result()
            case "rotate":
                return len(broker.keys.rotate(step.topic))
            case "master":
                return broker.keys.rotate_master()
            case "revoke":
                keys = [key for key in broker.keys.list() if key.topic == step.topic]
                if keys:
                    broker.keys.revoke(keys[step.number % len(keys)].key_id)
            case "keep":
                broker.keep()
            case "commit":
                if broker.topics([step.topic]):
                    end = broker.topic(step.topic).next_offset
                    broker.commit(step.group, {step.topic: min(step.number, end)})
            case "look":
                return seen(broker)
        return None

    def _append(self, step: Step) -> None:
        now_us = time.time_ns() // 1000
        committed = now_us - int(OLD_S * 1e6) if step.old else now_us
        builders: defaultdict[str, BatchBuilder] = defaultdict(
            lambda: BatchBuilder().begin(Tx(None, "", committed))
        )
        for item in step.items:
            builders[item.topic].add(Op.EVENT, event_schema(item.topic), item.body(published=False))
        batches = [(topic, builder.take(None)) for topic, builder in builders.items()]
        if not step.piped:
            self._broker.writer().append(batches)
            return
        if self._writer is None:
            self._writer = self._broker.writer(PIPELINE)
        kept = {} if step.stage is Stage.HOLD else {"a": step.position}
        self._writer.append(batches, Position(step.position), step.stage, kept)


def live(folder: Path, life: Life, teller: Connection, unsynced: mmap) -> NoReturn:
    """Be the process of a life; called in a fork."""
    status = 1
    try:
        Victim(folder, life, teller, unsynced).run()
        status = 0
    except BaseException:  # noqa: BLE001 - told to the one who checks
        teller.send(("broken", 0, traceback.format_exc()))
    finally:
        os._exit(status)
