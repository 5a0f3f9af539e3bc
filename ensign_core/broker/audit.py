"""The audit: what was done to keys and access, as events of a topic of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ensign_core.broker.events import Event
from ensign_core.engine.budget import AUDIT_TOPIC

__all__ = ["AUDIT_TOPIC", "audit_event"]


def audit_event(kind: str, **fields: str) -> Event:
    """What was done (``key.revoked``), when, and to what, as JSON. Fields are names and ids, never
    a secret or a value of a row."""
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    data = json.dumps({"kind": kind, "at": at, **fields})
    return Event(data.encode(), mimetype="application/json", type=kind)
