"""Group commit: whatever waits to be published when a commit begins goes into it, so that many
publishers share one sync.

Whoever publishes while nobody commits does it itself, which costs it no change of threads. What
comes meanwhile is left to one thread, which goes on as long as there is something. After a commit
those who were just acked mostly publish again at once: that thread lets as many come as there were,
for a part of the time that a commit takes, so that the publishers do not fall into two halves that
wait for each other's syncs.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from ensign_core.broker.commits import Commits
from ensign_core.broker.receipts import Receipt
from ensign_core.broker.vault import Vault
from ensign_core.crypto import forked
from ensign_core.errors import EnsignError

QUEUE_EVENTS_MAX = 65_536
"""Events that may wait or be committed; who publishes more waits."""

QUEUE_BYTES_MAX = 64 << 20
"""The same in bytes. What is larger by itself is let in alone."""

COMMIT_BYTES_MAX = 16 << 20
"""What goes into one commit; what is larger by itself is committed alone."""

GATHER_SHARE_MAX = 0.5
"""What part of the last commit's time others are waited for before the next."""

GATHER_S_MAX = 0.005
"""How long others are waited for at most."""


class Committer:
    """The queue of one broker. Its thread is started when there is something to do for it."""

    def __init__(self, vault: Vault) -> None:
        self._commits = Commits(vault)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._called = threading.Condition(self._lock)
        self._gathered = threading.Condition(self._lock)
        self._committed = threading.Condition(self._lock)
        self._queue: deque[Receipt] = deque()
        self._events = self._bytes = 0
        self._put = self._finished = 0
        self._leading = self._asked = self._closed = False
        self._gather_count = 0
        self._thread: threading.Thread | None = None

    def put(self, receipt: Receipt, *, lead: bool) -> None:
        """Queue a receipt; waits while the queue is full. With ``lead`` the caller may be the one
        who commits, and the receipt is done when this returns; it is done later otherwise. Raises
        ``publisher.closed``."""
        if os.getpid() != self._process:
            raise forked()
        with self._lock:
            while (
                self._events
                and not self._closed
                and (
                    self._events + receipt.count > QUEUE_EVENTS_MAX
                    or self._bytes + receipt.size > QUEUE_BYTES_MAX
                )
            ):
                self._committed.wait()
            if self._closed:
                raise _closed()
            self._queue.append(receipt)
            self._put += 1
            self._events += receipt.count
            self._bytes += receipt.size
            if self._leading:
                if len(self._queue) == self._gather_count:
                    self._gathered.notify()
                return
            self._leading = True
            if not lead:
                self._call()
                return
        self._lead_once()

    def drain(self) -> None:
        """Return when all that was put before this call is done."""
        with self._lock:
            end = self._put
            while self._finished < end:
                self._committed.wait()

    def close(self) -> None:
        """Commit what is queued, and take no more."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
            while self._leading:
                self._committed.wait()
            self._committed.notify_all()
            self._called.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _call(self) -> None:
        """Leave it to the thread, with the lock held."""
        self._asked = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
            self._thread.start()
        else:
            self._called.notify()

    def _lead_once(self) -> None:
        """Commit what is queued, in the thread of one who publishes."""
        try:
            self._commit()
        finally:
            with self._lock:
                if self._queue:
                    self._call()
                else:
                    self._rest()

    def _rest(self) -> None:
        """Nobody commits any more, with the lock held."""
        self._leading = False
        self._committed.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._asked and not self._closed:
                    self._called.wait()
                if not self._asked:
                    return
                self._asked = False
            more = True
            while more:
                began = time.monotonic()
                acked = self._commit()
                more = self._gather(acked, time.monotonic() - began)

    def _gather(self, acked: int, took_s: float) -> bool:
        """Wait a little for those who were just acked; whether there is something to commit."""
        with self._lock:
            self._gather_count = acked + len(self._queue)
            if self._gather_count > 1 and len(self._queue) < self._gather_count:
                self._gathered.wait(min(took_s * GATHER_SHARE_MAX, GATHER_S_MAX))
            self._gather_count = 0
            if not self._queue:
                self._rest()
            return bool(self._queue)

    def _commit(self) -> int:
        """Commit the first of the queue; how many there were."""
        taken: list[Receipt] = []
        size = 0
        try:
            with self._lock:
                while self._queue and (not taken or size + self._queue[0].size <= COMMIT_BYTES_MAX):
                    taken.append(self._queue.popleft())
                    size += taken[-1].size
            self._commits.commit(taken)
        finally:
            for receipt in taken:
                if not receipt.done:
                    receipt.failed(_interrupted())
            with self._lock:
                self._finished += len(taken)
                self._events -= sum(receipt.count for receipt in taken)
                self._bytes -= size
                self._committed.notify_all()
        return len(taken)


def _closed() -> EnsignError:
    return EnsignError(
        "publisher.closed",
        "An event was published to a broker that is closed.",
        "Publish before it is closed.",
    )


def _interrupted() -> EnsignError:
    return EnsignError(
        "publisher.interrupted",
        "Publishing was interrupted; nobody knows whether the event was stored.",
        "Publish it again, in a session with its sequence so that it is stored once.",
    )
