"""How a source starts: connections, what the server must be, publication, slot, and the stream.

Runs once per source, on its thread (I1). Raises the errors of `connectors.postgres.errors`.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.postgres import catalog, discovery, slot
from connectors.postgres.chunks import LOCK_MS_MAX
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.messages import options
from connectors.postgres.pgoutput import lsn_text
from connectors.postgres.position import Origin, Partial, Snapshots, Standpoint, decode
from connectors.postgres.publication import check_publication, ensure_publication
from connectors.postgres.session import Session, quoted
from ensign_core.change import Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context


class Started(NamedTuple):
    """A stream that has begun. ``lsn`` is where it starts, ``acked`` what the server may forget,
    ``target`` the end of the server's log when it was opened."""

    query: Session
    replication: Session
    server: catalog.Server
    origin: Origin
    snapshots: Snapshots
    lsn: int
    acked: int
    partial: Partial | None
    target: int


class Starter:
    """Opens the two connections, which stay its owner's to close whatever happens."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self.slot = config.slot_name(context.pipeline)
        self.publication = config.publication_name(context.pipeline)
        self.query: Session | None = None
        self.replication: Session | None = None

    def start(self, resume: Position | None) -> Started:
        """Connect, look, make publication and slot where this is the start, and start streaming."""
        stood = decode(resume) if resume is not None else None
        config, pipeline = self._config, self._context.pipeline
        self.query = query = Session(config, pipeline)
        server = catalog.server(query)
        slot.check_server(server)
        self.replication = replication = _replication_session(config, pipeline, server)
        system = replication.simple("IDENTIFY_SYSTEM", doing="identifying the server")
        for session in (query, replication):
            session.facts |= {"slot": self.slot, "publication": self.publication}
        origin = Origin(str(system[0][0]), server.database, self.slot, 0, int(str(system[0][1])))
        snapshots = stood.snapshots if stood else Snapshots()
        origin, lsn = self._prepare(query, server, origin, stood, snapshots)
        target = catalog.end_lsn(query, server.wal_page)
        self._stream(replication, lsn)
        return Started(
            query, replication, server, origin, snapshots, lsn,
            lsn if stood else 0, stood.partial if stood else None, target,
        )  # fmt: skip

    def _prepare(
        self,
        query: Session,
        server: catalog.Server,
        origin: Origin,
        stood: Standpoint | None,
        snapshots: Snapshots,
    ) -> tuple[Origin, int]:
        """Publication, slot and snapshot state; the origin, and the LSN to start at."""
        config, name = self._config, self.publication
        found = slot.find_slot(query, self.slot)
        if stood is not None:
            slot.check_continuation(query, stood, found, origin)
        if found is not None:
            slot.check_slot(found, origin)
        listed = discovery.listed(query, config)
        wanted = slot.captured_tables(listed, config)
        if config.snapshot != "never":
            unreadable = next((t for t in wanted if not t.readable), None)
            if unreadable is not None:
                raise error("select_privilege", user=server.user, table=unreadable.full_name)
        discovery.leave_out(query, listed, config, snapshots)
        if stood is not None:
            known = discovery.known(wanted, snapshots)
            check_publication(query, name, stood.origin.publication, known, snapshots)
        published = ensure_publication(query, config, name, wanted, patient=True)
        if found is None:
            start = slot.make_slot(query, self.slot, server, failover=config.failover)
        else:
            start = found.confirmed if stood is None else stood.lsn
        if stood is None and config.snapshot == "never":
            snapshots.done.update(table.oid for table in wanted)
        discovery.take_up(query, published, wanted, snapshots, fresh=found is None)
        query.simple(f"SET lock_timeout = {LOCK_MS_MAX}", doing="setting the connection up")
        return origin._replace(publication=published.oid), start

    def _stream(self, replication: Session, lsn: int) -> None:
        # A replication command knows no escapes.
        publication = "'" + quoted(self.publication).replace("'", "''") + "'"
        asked = options(self._config, replication.conn.server_version)
        state = replication.simple(
            f"START_REPLICATION SLOT {quoted(self.slot)} LOGICAL {lsn_text(lsn)} "
            f"(proto_version '1', publication_names {publication}{asked})",
            doing="starting to stream",
            tolerate=("55006", "55000", "42704"),
        )
        if state == "42704":
            raise error("slot_missing", slot=self.slot, from_lsn=lsn_text(lsn))
        if state == "55006":
            raise error("slot_in_use", slot=self.slot, pid="(unknown)", application="another")
        if isinstance(state, str):
            raise error("slot_lost", slot=self.slot)


def _replication_session(config: PostgresConfig, pipeline: str, server: catalog.Server) -> Session:
    try:
        return Session(config, pipeline, replication=True)
    except EnsignError as failed:
        if failed.code == "postgres.privilege_missing":
            raise error("replication_privilege", user=server.user) from None
        raise
