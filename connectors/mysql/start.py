"""How a source starts: connections, what the server must be, where to begin, and the stream.

Runs once per source, on its thread (I1). Raises the errors of `connectors.mysql.errors`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from connectors.mysql import continuing
from connectors.mysql.ahead import Ahead
from connectors.mysql.catalog import Catalog, Listed
from connectors.mysql.changes import Changes
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.events import format_description, header
from connectors.mysql.log import Log, refused
from connectors.mysql.position import Mode, Partial, Place, Snapshots, Standpoint, decode
from connectors.mysql.session import Server, Session, Status, literal, server, status
from connectors.mysql.structures import PIECE, Structure
from connectors.mysql.structures import decode as decode_structure
from connectors.mysql.tables import ASIDE, HIDDEN, Tables
from connectors.mysql.temporary import Hidden
from connectors.mysql.transactions import Consumed
from connectors.mysql.xa import files
from ensign_core.change import Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

FENCES_MAX: Final = 20
"""How often the catalog is read again where tables are altered just then."""

SERVER_IDS: Final = range(1 << 31, 1 << 32)
"""From where ids are chosen: nobody writes such large ones into a configuration."""

VERSIONS_MIN: Final = {True: (10, 2, 0), False: (5, 7, 0)}
"""The least version of MariaDB and of MySQL."""


@dataclass
class Started:
    """A stream that has begun. ``target`` is the end of the server's log when it was opened."""

    query: Session
    log: Log
    server: Server
    catalog: Catalog
    ahead: Ahead
    tables: Tables
    changes: Changes
    snapshots: Snapshots
    consumed: Consumed
    place: Place
    partials: tuple[Partial, ...]
    target: Place


class Starter:
    """Opens the connections, which stay its owner's to close whatever happens."""

    def __init__(self, config: MysqlConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self.query: Session | None = None
        self.log: Log | None = None
        self.ahead: Ahead | None = None

    def start(self, resume: Position | None, warn: Callable[[EnsignError], None]) -> Started:
        """Connect, look, find the place, and start streaming."""
        config, context = self._config, self._context
        stood = decode(resume) if resume is not None else None
        self.query = query = Session(config, context.pipeline)
        known = server(query)
        check_server(known)
        catalog = Catalog(query, mariadb=known.mariadb)
        snapshots = stood.snapshots if stood is not None else Snapshots()
        ahead = self.ahead = Ahead(query, known, catalog, lambda: self.connect(known, further=True))
        tables = self._tables(ahead, snapshots, warn, first=stood is None)
        changes = Changes(tables, catalog, ahead, config, snapshots, any_case=_any_case(query))
        end = _end(query, known)
        listed = catalog.tables(config)
        self.log = log = self.connect(known)
        gap = False
        if stood is not None:
            try:
                continuing.check(query, known, stood, end)
                self._check_made(known, stood, end)
                consumed = Consumed(stood.mode, stood.gtids)
                place = continuing.place_in(known, stood)
                log.start(consumed, place)
                self._show_hidden(known, tables, place, Place(log.file))
                asks = continuing.asks(stood, context)
                if asks or (stood.mode == "gtid" and place.file != log.file):
                    behind = Place(end.file, end.offset) if asks else Place(log.file)
                    self.check_anonymous(known, place, behind)
            except EnsignError as failed:
                found = self._explained(failed, known, stood, end)
                if not continuing.mends(found, stood, context):
                    raise found from None
                gap = True
                log.close()
                self.log = log = self.connect(known)
        if stood is None or gap:
            end, listed = self._fenced(query, known, catalog)
            consumed, place = self._beginning(query, known, end)
            if gap:
                continuing.start_over(snapshots, tables, listed)
            log.start(consumed, place)
        self._take_up(tables, snapshots, listed, first=stood is None)
        partials = stood.partials if stood is not None and not gap else ()
        return Started(
            query, log, known, catalog, ahead, tables, changes, snapshots, consumed, place,
            partials, Place(end.file, end.offset),
        )  # fmt: skip

    def _tables(
        self,
        ahead: Ahead,
        snapshots: Snapshots,
        warn: Callable[[EnsignError], None],
        *,
        first: bool,
    ) -> Tables:
        """The tables as they were at the position."""
        context = self._context
        structures = {} if first else _kept(context, PIECE)
        aside = {} if first else _kept(context, ASIDE)
        hidden = {} if first else _hidden(context)
        return Tables(
            ahead, self._config, snapshots, structures, aside, hidden, warn,
            pipeline=context.pipeline,
        )  # fmt: skip

    def _explained(
        self, failed: EnsignError, known: Server, stood: Standpoint, end: Status
    ) -> EnsignError:
        if refused(failed) and stood.server == known.identity:
            try:
                self.check_anonymous(known, stood.place, Place(end.file, end.offset))
            except EnsignError as found:
                if not refused(found):
                    return found
        return continuing.explained(failed, stood, end, self._context.pipeline)

    def _check_made(self, known: Server, stood: Standpoint, end: Status) -> None:
        """Raise where the file of the position is another one of that name: the log was reset, and
        is as long again. Two of the same second are not told apart."""
        assert self.query is not None
        if not stood.made_s or not continuing.same_server(known, stood):
            return
        with closing(self.connect(known, further=True)) as log:
            found = continuing.first_event(log, stood.place.file)
        if found is not None and header(found).timestamp_s != stood.made_s:
            raise error("log_reset", **continuing.facts_of(self.query, stood, end))

    def _show_hidden(self, known: Server, tables: Tables, place: Place, began: Place) -> None:
        """Temporary tables end with the server's start. Where a dump by GTIDs begins in a later
        file than that of the position, it does not tell whether there was one meanwhile."""
        assert self.query is not None
        if not tables.hidden or not place.file or not began.file:
            return
        for file in map(Place, files(self.query)):
            if place.order[0] < file.order[0] <= began.order[0]:
                with closing(self.connect(known, further=True)) as log:
                    found = continuing.first_event(log, file.file)
                if found is not None and format_description(found).started:
                    tables.show_all()

    def check_anonymous(self, known: Server, place: Place, end: Place) -> None:
        """Raise where MySQL's gtid_mode does not let a stream go on from one place to another."""
        assert self.query is not None
        if not place.file or known.mariadb or not known.gtids:
            return
        # A log that was reset meanwhile does not go so far.
        now = _end(self.query, known)
        end = min(end, Place(now.file, now.offset), key=lambda place: place.order)
        with closing(self.connect(known, further=True)) as log:
            if continuing.anonymous(log, place, end):
                raise error("gtid_mode", **self.query.facts)

    def connect(self, known: Server, *, further: bool = False) -> Log:
        """A connection for a dump of the log; a ``further`` one beside that of the stream never has
        the server id of the config, since a server ends the older of two dumps with one id."""
        config = self._config
        assert self.query is not None
        server_id = None if further else config.server_id
        server_id = server_id or free_id(self.query, known)
        return Log(config, self._context.pipeline, known, server_id)

    def _fenced(
        self, query: Session, known: Server, catalog: Catalog
    ) -> tuple[Status, dict[str, Listed]]:
        """The end of the log, and what all tables are there."""
        listed = catalog.tables(self._config)
        for _ in range(FENCES_MAX):
            end = _end(query, known)
            again = catalog.tables(self._config)
            same = {name: found.structure for name, found in again.items()} == {
                name: found.structure for name, found in listed.items()
            }
            if same:
                return end, again
            listed = again
        raise error("catalog.busy")

    def _beginning(self, query: Session, known: Server, end: Status) -> tuple[Consumed, Place]:
        """Where a pipeline begins that has no position: at the log's end."""
        mode = self._mode(known)
        place = Place(end.file, end.offset)
        if mode == "gtid":
            # Some of what is in the log before its end may not be in the set: where the stream
            # stands is told by what comes.
            return Consumed(mode, end.executed), Place()
        if mode == "mariadb":
            rows = query.rows(
                f"SELECT BINLOG_GTID_POS({literal(end.file)}, {end.offset})",
                doing="reading the GTID position",
            )
            return Consumed(mode, str(rows[0][0] or "")), place
        return Consumed(mode, ""), place

    def _mode(self, known: Server) -> Mode:
        if self._config.position == "file":
            return "file"
        if known.mariadb:
            return "mariadb"
        if self._config.position == "gtid" and not known.gtids:
            raise error("gtid_disabled")
        return "gtid" if known.gtids else "file"

    def _take_up(
        self, tables: Tables, snapshots: Snapshots, listed: dict[str, Listed], *, first: bool
    ) -> None:
        """Tables that are captured since the config or the server has changed, and those that are
        not any more."""
        for name in list(tables.structures):
            if not self._config.captures(*tables.structures[name].place):
                tables.forget(name)
        if not first and self._config.snapshot == "never":
            # What is new comes by the statement that made it.
            return
        for name, found in listed.items():
            if name not in tables.structures and name not in snapshots.stopped:
                tables.learn(found.structure)
                if self._config.snapshot != "never":
                    snapshots.take_up(name, wipe=False)


def check_version(known: Server) -> None:
    """Raise for a server that is too old."""
    if known.version < VERSIONS_MIN[known.mariadb]:
        raise error("version_unsupported", title=known.title)


def check_server(known: Server) -> None:
    """Raise what keeps a server from being captured at all."""
    check_version(known)
    if not known.log_bin:
        raise error("log_disabled")
    if known.log_format != "ROW":
        raise error("log_format", format=known.log_format)


def _kept(context: Context, prefix: str) -> dict[str, Structure]:
    try:
        pieces = (
            decode_structure(piece)
            for name, piece in context.kept().items()
            if name.startswith(prefix)
        )
        return {structure.name: structure for structure in pieces}
    except (ValueError, KeyError, TypeError):
        raise error("position_damaged") from None


def _hidden(context: Context) -> dict[int, Hidden]:
    try:
        return {
            int(name.removeprefix(HIDDEN)): frozenset((d, t) for d, t in json.loads(piece))
            for name, piece in context.kept().items()
            if name.startswith(HIDDEN)
        }
    except (ValueError, TypeError):
        raise error("position_damaged") from None


def _end(query: Session, known: Server) -> Status:
    try:
        found = status(query, known)
    except EnsignError as failed:
        if failed.code == "mysql.privilege_missing":
            raise error("status_privilege", **query.facts) from None
        raise
    if found is None:
        raise error("log_disabled")
    return found


def _any_case(query: Session) -> bool:
    rows = query.rows("SELECT @@lower_case_table_names")
    return bool(rows[0][0])


def replicas(query: Session, known: Server) -> dict[int, str] | None:
    """Who reads the log, by server id, and by what name; None where that may not be seen."""
    statement = "SHOW SLAVE HOSTS"
    if not known.mariadb and known.version >= (8, 0, 22):
        statement = "SHOW REPLICAS"
    # 1227: the privilege for it is missing.
    found = query.query(statement, tolerate=(1227,), doing="listing replicas")
    return {int(row[0]): str(row[1]) for row in found} if isinstance(found, list) else None


def free_id(query: Session, known: Server) -> int:
    """A server id that no replica has, as far as that can be seen: a collision is unlikely."""
    taken = replicas(query, known) or {}
    while True:
        chosen = random.choice(SERVER_IDS)  # noqa: S311  # a name, not a secret
        if chosen not in taken:
            return chosen


__all__ = ["Standpoint", "Started", "Starter", "check_server"]
