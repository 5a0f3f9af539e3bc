"""What operators ask of a source (`ensign snapshot`), taken into its position: from then on it is
carried out whatever happens to the worker. On the source's thread."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from connectors.postgres import discovery
from connectors.postgres.catalog import Table
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.position import Snapshots
from connectors.postgres.session import Session
from connectors.postgres.snapshot import Asked
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal


def take_in(
    session: Session, config: PostgresConfig, snapshots: Snapshots, signals: Sequence[Signal]
) -> list[EnsignError]:
    """Note what the signals ask for; what of it cannot be done, for the operator to see."""
    failed: list[EnsignError] = []
    for signal in signals:
        if signal.kind == "snapshot":
            tables = _chosen(session, config, snapshots, signal.tables)
            if not tables:
                failed.append(error("signal_unmatched", tables=", ".join(signal.tables) or "*.*"))
            for oid in tables:
                asked = Asked(oid, where=signal.where, reconcile=signal.reconcile)
                if asked not in snapshots.asked:
                    snapshots.asked.append(asked)
        elif signal.kind == "stop" and snapshots.gap:
            failed.append(error("gap_open"))
        elif signal.kind == "stop":
            snapshots.asked.clear()
        else:
            snapshots.paused = signal.kind == "pause"
        snapshots.signal = signal.number
    return failed


def _chosen(
    session: Session, config: PostgresConfig, snapshots: Snapshots, globs: Sequence[str]
) -> list[int]:
    """The captured tables that match, by name; partitions by those of their roots too."""
    return [
        table.oid
        for table in discovery.listed(session, config)
        if snapshots.knows(table.oid)
        and (not globs or any(_matches(glob, table) for glob in globs))
    ]


def _matches(glob: str, table: Table) -> bool:
    return any(fnmatchcase(name, glob) for name in (table.full_name, *table.root_names))
