"""Which tables are captured: compared with the position and the publication at the start and from
time to time. On the query connection and the source's thread; waits for no lock but at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from connectors.postgres import catalog, wal
from connectors.postgres.attaching import attached, begin_looking
from connectors.postgres.config import PostgresConfig
from connectors.postgres.position import NOBODY, Snapshots, mark
from connectors.postgres.publication import Publication, check_publication, ensure_publication
from connectors.postgres.session import Session

__all__ = ["attached", "discover", "known", "leave_out", "listed", "rename", "take_up"]


def listed(session: Session, config: PostgresConfig) -> list[catalog.Table]:
    """All tables that could be captured, by name: partitioned ones or their leaves, as the config
    has it."""
    return catalog.tables(session, leaves=config.partitions == "leaf")


def leave_out(
    session: Session,
    tables: Iterable[catalog.Table],
    config: PostgresConfig,
    snapshots: Snapshots,
) -> None:
    """Forget tables that the config leaves out, under the names that they have now, and those that
    are there but cannot be captured now, such as one that was attached to a partitioned table: what
    is changed in them meanwhile is in no stream under their names. One whose rows are still read is
    forgotten when they are, unless it is partitioned and partitions are captured. `rename` the
    others. ``tables`` are all that are `listed`."""
    found = list(tables)
    for table in found:
        captured = config.captures(table.schema, table.name, table.root_names)
        if snapshots.knows(table.oid) and not captured:
            snapshots.leave(table.oid)
        rename(config, snapshots, table.oid, table.full_name)
    lost = (snapshots.done | snapshots.tables.keys()) - {table.oid for table in found}
    if not lost:
        return
    for oid, partitioned in catalog.still_there(session, lost).items():
        if oid in snapshots.done or (partitioned and config.partitions == "leaf"):
            snapshots.leave(oid)


def rename(config: PostgresConfig, snapshots: Snapshots, oid: int, name: str) -> None:
    """Forget a table that is called otherwise than when it was taken up, so that it is read anew
    under its new name, whose topic may hold another table's rows. With ``snapshot: never`` it goes
    on under the new name with its changes alone."""
    names, now = snapshots.names, mark(name)
    if not snapshots.knows(oid) or names.get(now) == oid:
        return
    former = [known for known, owner in names.items() if owner == oid]
    if not former:
        return
    # The rows under the former names are nobody's from now on.
    names.update(dict.fromkeys(former, NOBODY))
    if config.snapshot == "never":
        names[now] = oid
    else:
        snapshots.leave(oid)


def known(tables: Iterable[catalog.Table], snapshots: Snapshots) -> list[catalog.Table]:
    """Those of the tables that were published before."""
    return [table for table in tables if snapshots.knows(table.oid)]


def take_up(
    session: Session,
    published: Publication,
    wanted: Iterable[catalog.Table],
    snapshots: Snapshots,
    bound: Callable[[Session], int] | None,
) -> bool:
    """Take up tables that are new to the position and published by now; whether there were any.
    Unless the slot was made after they were published, transactions that wrote to them before that
    may still run: ``bound`` gives one behind them."""
    if not snapshots.looked:
        begin_looking(session, snapshots)
    tables = [t for t in wanted if published.member(t) is not None]
    new = [t for t in tables if not snapshots.knows(t.oid)]
    behind = bound(session) if new and bound is not None else None
    for table in new:
        snapshots.take_up(table.oid, table.full_name, behind)
    for table in tables:
        note(published, table, snapshots)
        snapshots.names.setdefault(mark(table.full_name), table.oid)
    return bool(new)


def note(published: Publication, table: catalog.Table, snapshots: Snapshots) -> None:
    """Remember how a table is published."""
    for remembered, value in (
        (snapshots.members, published.member(table)),
        (snapshots.filters, published.filter(table)),
    ):
        if value:
            remembered[table.oid] = value


def discover(
    session: Session,
    config: PostgresConfig,
    snapshots: Snapshots,
    publication: str,
    publication_oid: int,
) -> bool:
    """Take up tables made since the start that the config captures, and see to it that the
    publication is still what it was; whether tables were taken up."""
    tables = listed(session, config)
    leave_out(session, tables, config, snapshots)
    wanted = [t for t in tables if config.captures(t.schema, t.name, t.root_names)]
    before = known(wanted, snapshots)
    check_publication(session, publication, publication_oid, before, snapshots)
    new = [table for table in wanted if not snapshots.knows(table.oid)]
    if not new:
        return False
    published = ensure_publication(session, config, publication, new, patient=False)
    return take_up(session, published, new, snapshots, wal.running_xmax)
