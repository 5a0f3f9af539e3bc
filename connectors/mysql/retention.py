"""The server's variables, and how long it keeps its binary log by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from connectors.mysql.session import Session

Variables = Mapping[str, str]
"""By name, in lower case; only those that the server has."""

RETENTION_NAMES: Final = (
    "binlog_expire_logs_auto_purge", "binlog_expire_logs_seconds", "expire_logs_days",
)  # fmt: skip
"""What `retention_s` looks at."""

DAY_S: Final = 86_400


def variables(session: Session, names: Iterable[str]) -> Variables:
    """Those of the names that the server has."""
    listed = ", ".join(f"'{name}'" for name in names)
    rows = session.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
    return {str(name).lower(): str(value) for name, value in rows}


def retention_s(found: Variables) -> float | None:
    """How long the server keeps its log, in seconds; None where it is for ever."""
    if found.get("binlog_expire_logs_auto_purge", "ON").upper() == "OFF":
        return None
    seconds = float(found.get("binlog_expire_logs_seconds", "0"))
    seconds = seconds or float(found.get("expire_logs_days", "0")) * DAY_S
    return seconds or None
