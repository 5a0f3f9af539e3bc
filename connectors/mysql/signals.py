"""What operators ask of a source (`ensign snapshot`), taken into its position: from then on it is
carried out whatever happens to the worker. On the source's thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

from connectors.mysql.errors import error
from connectors.mysql.position import Snapshots
from connectors.mysql.snapshot import Asked
from connectors.mysql.tables import Tables
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal


def take_in(tables: Tables, snapshots: Snapshots, signals: Sequence[Signal]) -> list[EnsignError]:
    """Note what the signals ask for; what of it cannot be done, for the operator to see."""
    failed: list[EnsignError] = []
    for signal in signals:
        if signal.kind == "snapshot":
            chosen = _chosen(tables, snapshots, signal.tables)
            if not chosen:
                failed.append(error("signal_unmatched", tables=", ".join(signal.tables) or "*.*"))
            waiting: dict[str, list[Asked]] = defaultdict(list)
            for each in snapshots.asked:
                waiting[each.name].append(each)
            for name in chosen:
                if name in snapshots.stopped:
                    tables.resume(name)
                asked = Asked(name, where=signal.where, reconcile=signal.reconcile)
                if asked not in waiting[name]:
                    snapshots.asked.append(asked)
        elif signal.kind == "stop" and snapshots.gap:
            failed.append(error("gap_open"))
        elif signal.kind == "stop":
            snapshots.asked.clear()
        else:
            snapshots.paused = signal.kind == "pause"
        snapshots.signal = signal.number
    return failed


def _chosen(tables: Tables, snapshots: Snapshots, globs: Sequence[str]) -> list[str]:
    """The captured tables that match, by name."""
    names = dict.fromkeys([*tables.structures, *snapshots.stopped])
    return [n for n in names if not globs or any(fnmatchcase(n, glob) for glob in globs)]
