"""One pipeline in this process: its threads, its status, its end."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ensign_core.broker import Broker, TopicPolicy, dead_letter_topic
from ensign_core.change import Offset, Schema
from ensign_core.config.transforms import AnyTransform
from ensign_core.errors import EnsignError
from ensign_core.plugin import Connector, ConnectorConfig
from ensign_core.run.egress import Egress
from ensign_core.run.ingest import Ingest, Observer
from ensign_core.run.part import Part

_logger = logging.getLogger("ensign")

REPORT_S = 1.0
DRAIN_S_MAX = 8.0
"""Less than the ten seconds that containers are given to end."""


@dataclass(frozen=True)
class SinkPlan:
    """A sink to run: ``begin`` says where one that was never seen starts, ``skip_revoked`` whether
    it goes on behind what was sealed under revoked keys."""

    connector: Connector[Any]
    config: ConnectorConfig
    begin: Literal["start", "end"] = "start"
    transforms: Sequence[AnyTransform] = ()
    skip_revoked: bool = False


@dataclass(frozen=True)
class Plan:
    """A pipeline to run, as the config declares it. ``topic_of`` names the topic of a schema,
    ``policy_of`` gives the policy of a topic that the pipeline makes."""

    name: str
    connector: Connector[Any]
    config: ConnectorConfig
    topic_of: Callable[[Schema], str]
    sinks: Mapping[str, SinkPlan]
    transforms: Sequence[AnyTransform] = ()
    policy_of: Callable[[str], TopicPolicy | None] = lambda _topic: None


class Pipeline:
    """Runs a plan until `stop` is called, its source is done, or a part of it fails."""

    def __init__(
        self,
        broker: Broker,
        plan: Plan,
        *,
        until_caught_up: bool = False,
        wait_s: float | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._broker = broker
        self._plan = plan
        until_caught_up = until_caught_up or plan.connector.ends(plan.config)
        self._until_caught_up = until_caught_up
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._ends: dict[str, Offset] | None = None
        self._source_done = False
        self._reported: dict[str, Any] = {}
        self._said: tuple[str, str | None] | None = None
        self._warned: set[str] = set()
        self.source = Ingest(
            broker, plan.name, plan.connector, plan.config, plan.topic_of, plan.transforms,
            policy_of=plan.policy_of, until_caught_up=until_caught_up, wait_s=wait_s,
            observer=observer,
        )  # fmt: skip
        self.sinks = [
            Egress(
                broker, plan.name, name, sink.connector, sink.config, sink.begin,
                sink.transforms, skip_revoked=sink.skip_revoked, wait_s=wait_s,
                until=lambda: self._ends,
            )
            for name, sink in plan.sinks.items()
        ]  # fmt: skip

    def stop(self) -> None:
        """Drain: finish and flush what is under way. Safe in any thread; not in a signal handler,
        which may have interrupted a holder of the same locks (`ensign_core.run.supervisor`)."""
        self._stopping.set()
        self._ended.set()
        for sink in self.sinks:
            sink.wake()

    def run(self) -> EnsignError | None:
        """Block until the pipeline has ended; the error that ended it, if one did. What goes wrong
        in one part stops the others, since they are useless without it."""
        release = self._broker.pipelines.hold(self._plan.name)
        # What is loaded by now stays: a full collection need not look at it, which would be seen in
        # the latency of a commit.
        gc.freeze()
        try:
            self._broker.pipelines.give_sinks(self._plan.name, [s.group for s in self.sinks])
            # Before a sink that is seen for the first time asks for their ends.
            self.source.give_topics()
            threads = [
                threading.Thread(target=self._part, args=(part,), name=part.name, daemon=True)
                for part in self._parts()
            ]
            try:
                for thread in threads:
                    thread.start()
                self._watch(threads)
            finally:
                self.stop()
                deadline = time.monotonic() + DRAIN_S_MAX
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
            self.report(final=True)
        finally:
            release()
        return self.error

    def _watch(self, threads: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads) and not self._stopping.is_set():
            self._ended.wait(REPORT_S)
            self._ended.clear()
            self._advance()
            self.report()

    @property
    def error(self) -> EnsignError | None:
        """What ended the pipeline."""
        return next((part.error for part in self._parts() if part.error is not None), None)

    def _parts(self) -> list[Part]:
        return [self.source, *self.sinks]

    def _part(self, part: Part) -> None:
        part.run(self._stopping)
        if part is self.source:
            self._source_done = True
        self._ended.set()

    def _advance(self) -> None:
        """After a part has ended: stop all if it failed, or let the sinks finish what is there."""
        if self.error is not None:
            self.stop()
        elif self._source_done and self._until_caught_up and self._ends is None:
            names = set(self._broker.pipelines.topics(self._plan.name))
            names.discard(dead_letter_topic(self._plan.name))
            self._ends = {
                topic.name: topic.next_offset
                for topic in self._broker.topics()
                if topic.name in names
            }
            for sink in self.sinks:
                sink.wake()

    def report(self, *, final: bool = False) -> None:
        """Leave the status for `ensign status`, if it changed."""
        progress = self.source.progress
        error = self.error or next(
            (part.progress.error for part in self._parts() if part.progress.error), None
        )
        state = "failed" if self.error else "stopped" if final else progress.state
        status = {
            "state": state,
            "position": progress.position,
            "lag_bytes": progress.lag_bytes,
            "committed_us": progress.committed_us,
            "detail": None if final else progress.detail,
            "kept_bytes": progress.kept_bytes,
            "snapshot": progress.snapshot_dict(),
            "warnings": [] if final else self._warnings(self._parts_warn()),
            "error": error.as_dict() if error else None,
        }
        if status == self._reported:
            return
        self._log(state, error)
        try:
            self._broker.pipelines.set_status(self._plan.name, status)
        except EnsignError:
            # The disk may be full just now; the parts meet that error themselves, and say so.
            return
        self._reported = status

    def _parts_warn(self) -> list[EnsignError]:
        held_up = self.source.held_up
        found = [warning for part in self._parts() for warning in part.progress.warnings]
        return found if held_up is None else [held_up, *found]

    def _warnings(self, warnings: Sequence[EnsignError]) -> list[dict[str, str]]:
        """What the parts warn of; a line when a warning appears, and one when it ends."""
        now = {warning.code: warning for warning in warnings}
        for code in now.keys() - self._warned:
            _logger.warning(
                "%s: warning: %s: %s %s", self._plan.name, code, now[code].sentence,
                now[code].remedy,
            )  # fmt: skip
        for code in self._warned - now.keys():
            _logger.info("%s: warning is over: %s", self._plan.name, code)
        self._warned = set(now)
        return [warning.as_dict() for warning in warnings]

    def _log(self, state: str, error: EnsignError | None) -> None:
        """A line per change of state: silence is normal operation."""
        said = state, error.code if error else None
        if said == self._said or state == "failed":
            return
        self._said = said
        if error is None:
            _logger.info("%s: %s", self._plan.name, state)
        else:
            _logger.warning(
                "%s: %s: %s: %s %s", self._plan.name, state, error.code, error.sentence,
                error.remedy,
            )  # fmt: skip
