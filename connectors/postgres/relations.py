"""The tables of the stream: what a Relation message and the catalog together say of each."""

from __future__ import annotations

from connectors.postgres import columns
from connectors.postgres.catalog import (
    Description,
    Types,
    describe,
    schema_of_relation,
)
from connectors.postgres.config import PostgresConfig
from connectors.postgres.discovery import rename
from connectors.postgres.pgoutput import parse_relation
from connectors.postgres.position import Snapshots
from connectors.postgres.publication import via_root_unsuitable
from connectors.postgres.published import published_alone
from connectors.postgres.session import Session
from connectors.postgres.wal import running_xmax
from ensign_core.change import Schema


def excluded_key(config: PostgresConfig, description: Description) -> str | None:
    """The first column of a table's key that the config leaves out, None if there is none. For
    `ensign check`, which says it as ``postgres.column_key_excluded``."""
    table = f"{description.schema}.{description.name}"
    for attribute in description.attributes:
        if config.columns is None or attribute.place is None:
            continue
        if not config.columns.captures(table, attribute.name):
            return f"{table}.{attribute.name}"
    return None


class Relations:
    """Schemas by relation oid; None for a table that the config leaves out. A Relation message
    comes before the first row of a table in a session and after each change of its structure.
    ``kept`` has for tables of which columns are left out the indexes of those captured.
    ``mixed`` are partitioned tables with REPLICA IDENTITY FULL that have partitions without it: an
    old image that says it is whole may be of the key only, so that none may be taken for whole."""

    def __init__(
        self,
        session: Session,
        config: PostgresConfig,
        snapshots: Snapshots,
        *,
        database: str,
        types: Types,
    ) -> None:
        self._session = session
        self._config = config
        self._snapshots = snapshots
        self._leaves = config.partitions == "leaf"
        self.database = database
        self._types = types
        self.kept: dict[int, tuple[int, ...]] = {}
        self.mixed: set[int] = set()
        self._schemas: dict[int, Schema | None] = {}
        self._whole: set[int] = set()

    def learn(self, data: bytes) -> int:
        """Take in a Relation message; the relation's oid. Asks the catalog what the message leaves
        out. A table never heard of before is one that was made since: its rows are to be read. A
        partition is announced with its root, under whose name its rows come: none under its own.
        What was a partition only later has the rows that it had before."""
        found = parse_relation(data)
        oid = found.oid
        captured = self._config.captures(found.schema, found.table)
        now = describe(self._session, oid) if captured or self._leaves else None
        if self._leaves:
            # The roots are not the stream's to say: what is gone is captured if it was before.
            captured = (captured or self._snapshots.knows(oid)) if now is None else (
                self._config.captures(found.schema, found.table, now.root_names)
            )  # fmt: skip
        if not captured:
            self._snapshots.leave(oid)
            self._schemas[oid] = None
            return oid
        if now is not None:
            self._look(oid, f"{found.schema}.{found.table}", now)
            if found.identity != "f":
                self._mix(now)
        whole = schema_of_relation(self.database, found, now, self._types)
        keep = columns.kept(self._config.columns, whole)
        if keep is None and oid in self.mixed:
            keep = tuple(range(len(whole.columns)))
        self._schemas[oid] = columns.reduced(whole, keep)
        if found.identity == "f":
            self._whole.add(oid)
        else:
            self._whole.discard(oid)
        if keep is None:
            self.kept.pop(oid, None)
        else:
            self.kept[oid] = keep
        return oid

    def _look(self, oid: int, called: str, now: Description) -> None:
        """Take up a table that is new, or that is called or published otherwise than when it was
        taken up. A Relation message comes between the last row of the old way and the first of the
        new; what it is of was ``called`` so, and may be called otherwise by now."""
        snapshots, name = self._snapshots, f"{now.schema}.{now.name}"
        split = now.partitioned if self._leaves else now.partition
        known = snapshots.knows(oid)
        if called == name:
            rename(self._config, snapshots, oid, name)
        renamed = known and not snapshots.knows(oid)
        if split or known:
            publication = str(self._session.facts["publication"])
            found = published_alone(self._session, publication, oid)
            if split:
                if found is not None and found.via_root is self._leaves:
                    raise via_root_unsuitable(publication, name, wanted=not self._leaves)
                return
            if not renamed and (found is None or found.filter == snapshots.filters.get(oid, 0)):
                return
        if self._config.captures(now.schema, now.name, now.root_names):
            snapshots.leave(oid)
            snapshots.take_up(oid, name, running_xmax(self._session))
            if known and found is not None and found.member:
                snapshots.members[oid] = found.member
            if known and found is not None and found.filter:
                snapshots.filters[oid] = found.filter

    def _mix(self, partition: Description) -> None:
        """A partition has not the whole old row: those that come under its roots' names neither."""
        for root in partition.roots:
            schema = self._schemas.get(root.oid)
            if schema is not None and root.oid in self._whole:
                self.mixed.add(root.oid)
                self.kept.setdefault(root.oid, tuple(range(len(schema.columns))))

    def name_type(self, oid: int, name: str) -> None:
        """Take in a Type message."""
        self._types.forget(oid, name)

    def __getitem__(self, oid: int) -> Schema | None:
        schema = self._schemas[oid]
        if schema is not None and self._snapshots.is_void(oid, schema.name):
            return None
        return schema
