"""The tables of the stream: what a Relation message and the catalog together say of each."""

from __future__ import annotations

from connectors.postgres.catalog import Types, describe, schema_of_relation
from connectors.postgres.config import PostgresConfig
from connectors.postgres.pgoutput import parse_relation
from connectors.postgres.position import Snapshots
from connectors.postgres.session import Session
from connectors.postgres.snapshot import TableSnapshot
from ensign_core.change import Schema


class Relations:
    """Schemas by relation oid; None for a table that the config leaves out. A Relation message
    comes before the first row of a table in a session and after each change of its structure."""

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
        self._database = database
        self._types = types
        self._schemas: dict[int, Schema | None] = {}

    def learn(self, data: bytes) -> int:
        """Take in a Relation message; the relation's oid. Asks the catalog what the message leaves
        out. A table never heard of before is one that was made since: its rows are to be read. A
        partition is announced with its root, under whose name its rows come."""
        found = parse_relation(data)
        schema = None
        if self._config.captures(found.schema, found.table):
            now = describe(self._session, found.oid)
            if now is None or not now.partition:
                schema = schema_of_relation(self._database, found, now, self._types)
            snapshots = self._snapshots
            known = found.oid in snapshots.done or found.oid in snapshots.tables
            if now is not None and not now.partition and not known:
                bound = current_xmax(self._session)
                snapshots.tables[found.oid] = TableSnapshot(found.oid, bound)
        self._schemas[found.oid] = schema
        return found.oid

    def name_type(self, oid: int, name: str) -> None:
        """Take in a Type message."""
        self._types.forget(oid, name)

    def __getitem__(self, oid: int) -> Schema | None:
        return self._schemas[oid]


def current_xmax(session: Session) -> int:
    """The first transaction id not assigned yet. What a transaction from this one on writes, it
    writes with the publication as it is now."""
    rows = session.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())", doing="asking the time")
    return int(str(rows[0][0]))
