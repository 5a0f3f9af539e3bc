"""How a source starts: connections, what the server must be, publication, slot, and the stream.

Runs once per source, on its thread (I1). Raises the errors of `connectors.postgres.errors`.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.postgres import catalog, discovery, mending, slot, wal
from connectors.postgres.chunks import LOCK_MS_MAX
from connectors.postgres.config import PostgresConfig
from connectors.postgres.continuing import check_continuation
from connectors.postgres.errors import error
from connectors.postgres.messages import options
from connectors.postgres.pgoutput import lsn_text, page_start
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


class _Prepared(NamedTuple):
    """``continued``: the stream goes on where the position stands."""

    origin: Origin
    lsn: int
    continued: bool


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
        query.read_only = query.read_only or server.standby
        self.replication = replication = _replication_session(config, pipeline, server)
        system = replication.simple("IDENTIFY_SYSTEM", doing="identifying the server")
        for session in (query, replication):
            session.facts |= {
                "slot": self.slot, "publication": self.publication, "pipeline": pipeline
            }  # fmt: skip
        origin = Origin(
            str(system[0][0]), server.database, self.slot, 0, int(str(system[0][1])),
            server.standby,
        )  # fmt: skip
        snapshots = stood.snapshots if stood else Snapshots()
        prepared = self._prepare(query, server, origin, stood, snapshots)
        target = wal.end_lsn(query, server, read_only=query.read_only)
        self._stream(replication, server, prepared.lsn)
        continued = stood if prepared.continued else None
        return Started(
            query, replication, server, prepared.origin, snapshots, prepared.lsn,
            prepared.lsn if continued else 0, continued.partial if continued else None, target,
        )  # fmt: skip

    def _prepare(
        self,
        query: Session,
        server: catalog.Server,
        origin: Origin,
        stood: Standpoint | None,
        snapshots: Snapshots,
    ) -> _Prepared:
        """See to publication, slot and snapshot state."""
        config, name = self._config, self.publication
        first = stood is None
        found = self._find(query, server)
        listed = discovery.listed(query, config)
        gap = stood is not None and self._gap(query, server, origin, stood, found, listed)
        wanted = slot.captured_tables(listed, config)
        if gap or config.snapshot != "never":
            unreadable = next((t for t in wanted if not t.readable), None)
            if unreadable is not None:
                raise error("select_privilege", user=server.user, table=unreadable.full_name)
        if found is not None:
            slot.check_ours(found, origin)
        if stood is not None and gap:
            elsewhere = stood.origin.system != origin.system
            mending.start_over(snapshots, wanted, elsewhere=elsewhere)
            stood = None
        elif found is not None and found.invalid:
            raise slot.lost(query, found.invalid)
        discovery.leave_out(query, listed, config, snapshots)
        published = ensure_publication(query, config, name, wanted, patient=True)
        if gap and found is not None:
            slot.drop_slot(query, self.slot)
            found = None
        if found is None:
            start = slot.make_slot(query, self.slot, server, failover=config.failover)
        else:
            start = found.confirmed if stood is None else stood.lsn
            if config.failover and not found.failover:
                assert self.replication is not None
                slot.keep_on_standbys(self.replication, self.slot, server)
        if first and config.snapshot == "never":
            snapshots.done.update(table.oid for table in wanted)
        bound = wal.ended_xmax if first else wal.running_xmax
        discovery.take_up(query, published, wanted, snapshots, bound if found is not None else None)
        query.simple(f"SET lock_timeout = {LOCK_MS_MAX}", doing="setting the connection up")
        return _Prepared(origin._replace(publication=published.oid), start, stood is not None)

    def _find(self, query: Session, server: catalog.Server) -> slot.Slot | None:
        found = slot.find_slot(query, self.slot)
        if found is not None and found.pid and self._config.stale_walsender == "terminate":
            return slot.freed(query, self.slot, found, server, self._context.pipeline)
        return found

    def _gap(
        self,
        query: Session,
        server: catalog.Server,
        origin: Origin,
        stood: Standpoint,
        found: slot.Slot | None,
        listed: list[catalog.Table],
    ) -> bool:
        """Whether slot or publication do not continue the position, and the operator has asked for
        the mend of that. Raises where nobody has."""
        assert self.replication is not None
        captured = [t for t in listed if self._config.captures(t.schema, t.name, t.root_names)]
        known = discovery.known(captured, stood.snapshots)
        oid = stood.origin.publication
        try:
            end = wal.end_lsn(query, server)
            if page_start(stood.lsn, server.wal_page) == end:
                # The same place: a slot that is made at a page's start may begin behind its header.
                end = max(end, stood.lsn)
            check_continuation(self.replication, stood, found, origin, end)
            if found is not None:
                slot.check_slot(query, found, origin)
            check_publication(query, self.publication, oid, known, stood.snapshots)
        except EnsignError as failed:
            if not mending.mends(failed, stood, origin.database, self._context):
                raise
            return True
        return False

    def _stream(self, replication: Session, server: catalog.Server, lsn: int) -> None:
        # A replication command knows no escapes.
        publication = "'" + quoted(self.publication).replace("'", "''") + "'"
        asked = options(self._config, replication.conn.server_version)
        state = replication.simple(
            f"START_REPLICATION SLOT {quoted(self.slot)} LOGICAL {lsn_text(lsn)} "
            f"(proto_version '1', publication_names {publication}{asked})",
            doing="starting to stream",
            tolerate=("55006", "55000", "42704"),
        )
        if not isinstance(state, str):
            return
        # Somebody else was faster: what is there now?
        assert self.query is not None
        found = slot.find_slot(self.query, self.slot)
        facts = {**replication.facts, "from_lsn": lsn_text(lsn), "sqlstate": state}
        if found is None:
            facts["to_lsn"] = lsn_text(wal.end_lsn(self.query, server))
            raise error("slot_missing", **facts)
        if found.invalid:
            raise slot.lost(self.query, found.invalid)
        if state == "55006":
            raise error("slot_in_use", **facts, pid=found.pid, holder=found.holder)
        raise error("refused", **facts, doing="starting to stream")


def _replication_session(config: PostgresConfig, pipeline: str, server: catalog.Server) -> Session:
    try:
        return Session(config, pipeline, replication=True)
    except EnsignError as failed:
        if failed.code == "postgres.privilege_missing":
            raise error("replication_privilege", user=server.user) from None
        raise
