"""What becomes of published events: acks, nacks with the codes of Ensign's protocol, and what
stands for either until it is known."""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ensign_core.broker.events import Event
from ensign_core.change import Offset
from ensign_core.errors import EnsignError, unexpected

_NONE = array("I")
_log = logging.getLogger("ensign")

UNKNOWN, INTERNAL = 0, 9

NACK_CODES = {
    "event.too_large": 1,
    "topic.unknown": 2,
    "topic.name_invalid": 2,
    "topic.archived": 3,
    "topic.deleted": 4,
    "topic.not_granted": 5,
    "access.denied": 5,
    "publish.sequence_forgotten": UNKNOWN,
    "publish.sequence_invalid": UNKNOWN,
}
"""The protocol's ``Nack.Code`` for the codes of our errors (``ensign.v1beta1``); all others are
INTERNAL, which says to try again."""

NACK_MESSAGES = {
    UNKNOWN: "unknown error",
    1: "maximum event size has been exceeded",
    2: "topic unknown or unhandled",
    3: "cannot publish to an archived topic",
    4: "topic is currently being deleted",
    5: "not authorized to perform this action",
    6: "could not commit event, please try again",
    7: "wrong node for event sharding policy, please try again",
    8: "redirect to correct node",
    INTERNAL: "internal error, please wait and try again",
}
"""The protocol's default message for each code that a server sends."""


class Acked(NamedTuple):
    """An event is on the disk, since ``committed_us`` at the latest. A ``duplicate`` was not stored
    again: ``offset`` is that of the event that it repeats."""

    offset: Offset
    committed_us: int
    duplicate: bool = False


class Nacked(NamedTuple):
    """An event was not stored for ``error``. ``code`` and ``message`` are the protocol's."""

    code: int
    message: str
    error: EnsignError


def nacked(error: Exception) -> Nacked:
    """The nack for an error."""
    if not isinstance(error, EnsignError):
        error = unexpected(error)
    code = NACK_CODES.get(error.code, INTERNAL)
    return Nacked(code, NACK_MESSAGES[code], error)


class Receipt:
    """Stands for events of one topic that were sent together, until it is known what became of
    them: all of them are acked, or all are nacked. Any thread may ask.

    ``sequence`` is that of the first event, given or, once that was tried, assigned; None without a
    session. ``create`` says whether to make the topic. ``on_done`` is called with the receipt, by
    the thread that commits: it must be quick and must not publish.
    """

    __slots__ = (
        "_acks", "_done", "_error", "_first", "_on_done", "_wait", "assigned", "body",
        "committed_us", "count", "create", "ends", "events", "sequence", "session", "size", "topic",
    )  # fmt: skip

    def __init__(
        self,
        topic: str,
        events: Sequence[Event],
        body: bytes,
        ends: array[int],
        *,
        session: bytes | None = None,
        sequence: int | None = None,
        create: bool = True,
        on_done: Callable[[Receipt], object] | None = None,
    ) -> None:
        self.topic = topic
        self.events = events
        self.body = body
        self.ends = ends
        self.count = len(ends)
        self.size = len(body)
        self.session = session
        self.sequence = sequence
        self.assigned = session is not None and sequence is None
        self.create = create
        self.committed_us = 0
        self._on_done = on_done
        self._first = -1
        self._acks: Sequence[Acked] | None = None
        self._error: Exception | None = None
        self._done = False
        # A bare lock: what all waiting threads share would be contended by all at every commit.
        self._wait = threading.Lock()
        self._wait.acquire()

    @property
    def done(self) -> bool:
        return self._done

    def acked(self, first: Offset, committed_us: int, acks: Sequence[Acked] | None = None) -> None:
        """By whoever commits: the events are durable from the offset ``first`` on, or where each of
        ``acks`` says."""
        self._first, self._acks, self.committed_us = first, acks, committed_us
        self._finish()

    def failed(self, error: Exception) -> None:
        """By whoever commits: nothing of it was stored."""
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self.events, self.body, self.ends = (), b"", _NONE
        self._done = True
        self._wait.release()
        if self._on_done is not None:
            try:
                self._on_done(self)
            except (Exception, SystemExit) as error:  # noqa: BLE001
                # Of the thread that commits for all; one that ended would leave the others waiting.
                _log.error("what a publisher asked to be told failed: %s", unexpected(error))

    def wait(self, timeout_s: float = -1.0) -> bool:
        """Wait until it is known what became of the events, or for ``timeout_s``; whether it is."""
        if not self._done and self._wait.acquire(timeout=timeout_s):
            self._wait.release()
        return self._done

    def results(self) -> list[Acked]:
        """The acks of all events, when they are known; raises the error if there are none."""
        self._raise()
        if self._acks is not None:
            return list(self._acks)
        return [Acked(self._first + i, self.committed_us) for i in range(self.count)]

    def result(self) -> Acked:
        """That of the last event."""
        self._raise()
        if self._acks is not None:
            return self._acks[-1]
        return Acked(self._first + self.count - 1, self.committed_us)

    def outcome(self) -> Acked | Nacked:
        """The last event's ack, or the nack, when it is known."""
        self.wait()
        return self.result() if self._error is None else nacked(self._error)

    def _raise(self) -> None:
        self.wait()
        error = self._error
        if isinstance(error, EnsignError):
            # Each thread raises one of its own: a traceback is the exception's, not the thread's.
            raise EnsignError(error.code, error.sentence, error.remedy)
        if error is not None:
            raise error
