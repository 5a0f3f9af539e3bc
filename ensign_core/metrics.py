"""Counters and histograms, one observation per batch. Names follow the Prometheus conventions."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300,
)  # fmt: skip

EVENTS_APPENDED = Counter("ensign_events_appended", "Events made durable in topics.", ["pipeline"])
BYTES_APPENDED = Counter(
    "ensign_bytes_appended", "Bytes of rows before compression.", ["pipeline"], unit="bytes"
)
COMMIT_TO_DURABLE = Histogram(
    "ensign_commit_to_durable_seconds",
    "From the commit at the source to the sync here, of each batch's oldest transaction.",
    ["pipeline"],
    buckets=_SECONDS,
)
APPEND_SECONDS = Histogram(
    "ensign_append_seconds", "Pack, seal, append and sync of a batch.", ["pipeline"],
    buckets=_SECONDS,
)  # fmt: skip
SOURCE_LAG_BYTES = Gauge(
    "ensign_source_lag_bytes", "How far the source's log is ahead.", ["pipeline"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
SOURCE_KEPT_BYTES = Gauge(
    "ensign_source_kept_bytes", "What the server keeps of its log for the source.", ["pipeline"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
SNAPSHOT_ROWS = Gauge(
    "ensign_snapshot_rows", "Rows read by the snapshots under way.", ["pipeline"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
SNAPSHOT_ROWS_EXPECTED = Gauge(
    "ensign_snapshot_rows_expected", "Rows that they will read, an estimate.", ["pipeline"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
EVENTS_DELIVERED = Counter(
    "ensign_events_delivered", "Events flushed by a sink.", ["pipeline", "sink"]
)
DEAD_LETTERS = Counter("ensign_dead_letters", "Events set aside.", ["pipeline"])
GROUP_UNFINISHED = Gauge(
    "ensign_group_unfinished", "Events of a work group that are under way.", ["group"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
RESTARTS = Counter(
    "ensign_restarts", "Times that a source or sink was made anew.", ["pipeline", "part", "code"]
)
