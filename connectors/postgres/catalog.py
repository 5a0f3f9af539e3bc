"""What the catalog says of servers, tables, columns, types and publications: the queries.

All run on the query connection, on the source's thread. Names are compared as the catalog spells
them; the session's search_path is empty, so that `format_type` qualifies user-defined types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from connectors.postgres.columns import kept, reduced
from connectors.postgres.config import ColumnsConfig
from connectors.postgres.pgoutput import Relation
from connectors.postgres.published import PublishedPart, published_part
from connectors.postgres.session import Row, Session
from connectors.postgres.types import INTEGERS, TEXTS, UUID, logical
from ensign_core.change import Column, Schema

KeyKind = Literal["int", "uuid", "text"]
"""Key types whose order can be reproduced outside the server."""


class Server(NamedTuple):
    """``wal_page`` is the size of a WAL page in bytes."""

    version: int
    wal_level: str
    standby: bool
    database: str
    user: str
    replication: bool
    wal_page: int


class Root(NamedTuple):
    """A partitioned table that another is a partition of, directly or not."""

    oid: int
    schema: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


class Table(NamedTuple):
    """A table that could be captured, permanent: ordinary or the topmost of partitioned ones, or a
    leaf where leaves are captured, which then has its ``roots``, the topmost first."""

    oid: int
    schema: str
    name: str
    partitioned: bool
    identity: str
    readable: bool
    keyed: bool
    roots: tuple[Root, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def root_names(self) -> tuple[str, ...]:
        return tuple(root.full_name for root in self.roots)


class KeyPart(NamedTuple):
    """One column of a table's key, in the order of its index."""

    name: str
    kind: KeyKind | None


class Attribute(NamedTuple):
    """A column as the catalog has it. ``place`` is its place in the key's index, or None."""

    name: str
    type_oid: int
    typmod: int
    required: bool
    place: int | None
    orderly: bool
    published: bool


@dataclass(frozen=True)
class Description:
    """A table as the catalog has it now. ``row_filter`` is the publication's, an SQL expression;
    ``roots`` are what a partition belongs to, the topmost first."""

    schema: str
    name: str
    partitioned: bool
    partition: bool
    attributes: tuple[Attribute, ...]
    row_filter: str | None
    roots: tuple[Root, ...] = ()

    @property
    def root_names(self) -> tuple[str, ...]:
        return tuple(root.full_name for root in self.roots)


class Type(NamedTuple):
    """A type with domains resolved. ``native`` is its name with its modifier."""

    oid: int
    native: str
    name: str
    kind: str


def server(session: Session) -> Server:
    """Facts of the server and of the session's user."""
    row = session.rows(
        "SELECT current_setting('server_version_num'), current_setting('wal_level'), "
        "pg_is_in_recovery(), current_database(), current_user, r.rolreplication OR r.rolsuper, "
        "current_setting('wal_block_size') FROM pg_catalog.pg_roles r WHERE rolname = current_user"
    )[0]
    return Server(
        int(str(row[0])), str(row[1]), row[2] == "t", str(row[3]), str(row[4]), row[5] == "t",
        int(str(row[6])),
    )  # fmt: skip


_ROOTS = """CASE WHEN c.relispartition THEN (
         SELECT json_agg(json_build_array(r.oid::bigint, rn.nspname, r.relname) ORDER BY u.n DESC)
         FROM pg_partition_ancestors(c.oid) WITH ORDINALITY u(oid, n)
         JOIN pg_catalog.pg_class r ON r.oid = u.oid AND r.oid <> c.oid
         JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace) END"""
"""What the partition ``c`` belongs to, the topmost first."""

IS_KEY = """CASE c.relreplident WHEN 'i' THEN i.indisreplident
               WHEN 'd' THEN i.indisprimary AND i.indimmediate ELSE i.indisprimary END"""
"""Whether index ``i`` of table ``c`` has the key of its rows. A deferrable primary key is none to
the server: as by default it tells no rows apart in the stream."""

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relreplident,
       has_schema_privilege(n.oid, 'USAGE')
         AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT')),
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND IS_KEY),
       ROOTS
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND CASE WHEN $1::bool THEN c.relkind = 'r' ELSE NOT c.relispartition END
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 2, 3
""".replace("IS_KEY", IS_KEY).replace("ROOTS", _ROOTS)


def tables(session: Session, *, leaves: bool = False) -> list[Table]:
    """All tables that could be captured, by name; partitioned ones, or their ``leaves``."""
    asked = ("t" if leaves else "f",)
    return [
        Table(
            int(str(r[0])), str(r[1]), str(r[2]), r[3] == "t", str(r[4]), r[5] == "t", r[6] == "t",
            _roots(r[7]),
        )
        for r in session.rows(_TABLES, asked, doing="listing tables")
    ]  # fmt: skip


def _roots(found: str | None) -> tuple[Root, ...]:
    return tuple(Root(*root) for root in json.loads(found or "[]"))


_STILL_THERE = "SELECT oid, relkind = 'p' FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[])"


def still_there(session: Session, oids: Iterable[int]) -> dict[int, bool]:
    """Those of the relations that exist, and whether they are partitioned."""
    asked = "{" + ",".join(map(str, oids)) + "}"
    found = session.rows(_STILL_THERE, (asked,), doing="looking for tables")
    return {int(str(oid)): partitioned == "t" for oid, partitioned in found}


_TYPES = """
WITH RECURSIVE given AS (
  SELECT row_number() OVER () AS n, o AS oid, m AS typmod
  FROM unnest($1::oid[], $2::int[]) AS u(o, m)
), step AS (
  SELECT n, oid, typmod, 0 AS depth FROM given
  UNION ALL
  SELECT s.n, t.typbasetype, t.typtypmod, depth + 1
  FROM step s JOIN pg_catalog.pg_type t ON t.oid = s.oid WHERE t.typtype = 'd'
)
SELECT DISTINCT ON (s.n) g.oid, g.typmod, t.oid,
       pg_catalog.format_type(t.oid, s.typmod), t.typname, t.typtype
FROM step s JOIN given g USING (n) JOIN pg_catalog.pg_type t ON t.oid = s.oid
ORDER BY s.n, s.depth DESC
"""


class Types:
    """Remembers what the catalog said of types; ``named`` holds what the stream said of those that
    the catalog has no more."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[int, int], Type] = {}
        self.named: dict[int, str] = {}

    def resolve(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Type]:
        """Types by oid and modifier; one query for all that are new."""
        new = sorted(set(wanted) - self._known.keys())
        if new:
            oids = "{" + ",".join(str(oid) for oid, _ in new) + "}"
            typmods = "{" + ",".join(str(typmod) for _, typmod in new) + "}"
            for row in self._session.rows(_TYPES, (oids, typmods), doing="reading types"):
                key = int(str(row[0])), int(str(row[1]))
                self._known[key] = Type(int(str(row[2])), str(row[3]), str(row[4]), str(row[5]))
            for key in new:
                if key not in self._known:
                    name = self.named.get(key[0], f"oid {key[0]}")
                    self._known[key] = Type(key[0], name, name, "?")
        return self._known

    def forget(self, oid: int, name: str) -> None:
        """The stream announced a user-defined type: look it up again."""
        self.named[oid] = name
        for key in [key for key in self._known if key[0] == oid]:
            del self._known[key]


_DESCRIBE = """
SELECT n.nspname, c.relname, c.relkind = 'p', c.relispartition, ROOTS
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid
""".replace("ROOTS", _ROOTS)

_ATTRIBUTES = """
SELECT a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, k.place,
       a.attcollation = 0
       OR getdatabaseencoding() IN ('UTF8', 'SQL_ASCII', 'LATIN1') AND (
         l.collname IN ('C', 'POSIX') OR to_jsonb(l) ->> 'collprovider' = 'b'
         OR (l.oid = 100 AND d.datcollate IN ('C', 'POSIX')
             AND coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c')
         OR (l.oid = 100 AND to_jsonb(d) ->> 'datlocprovider' = 'b')),
       a.attgenerated
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_database d ON d.datname = current_database()
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN LATERAL (
  SELECT u.place - 1 AS place FROM pg_catalog.pg_index i,
         unnest(i.indkey::int2[]) WITH ORDINALITY AS u(attnum, place)
  WHERE i.indrelid = c.oid AND u.attnum = a.attnum AND u.place <= i.indnkeyatts
    AND IS_KEY
) k ON true
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
""".replace("IS_KEY", IS_KEY)
"""Text is orderly where its bytes in UTF-8, as they come, order as the server's own do."""


def describe(session: Session, oid: int, publication: str = "") -> Description | None:
    """A table's structure now, None if it is gone; without a publication it counts as published as
    a whole."""
    found = session.rows(_DESCRIBE, (str(oid),))
    if not found:
        return None
    published = published_part(session, publication, oid) if publication else PublishedPart()
    attributes = [_attribute(r, published) for r in session.rows(_ATTRIBUTES, (str(oid),))]
    schema, name, partitioned, partition, roots = found[0]
    return Description(
        str(schema), str(name), partitioned == "t", partition == "t", tuple(attributes),
        published.row_filter, _roots(roots),
    )  # fmt: skip


def _attribute(row: Row, published: PublishedPart) -> Attribute:
    number, name, oid, typmod, required, place, orderly, generated = row
    return Attribute(
        str(name), int(str(oid)), int(str(typmod)), required == "t",
        None if place is None else int(place), orderly == "t",
        published.has(str(number), str(generated)),
    )  # fmt: skip


def key_parts(description: Description, types: Types) -> tuple[KeyPart, ...]:
    """The key in the order of its index, empty for a table without one, or whose key the
    publication leaves out in part."""
    parts = sorted(
        (a for a in description.attributes if a.place is not None), key=lambda a: a.place or 0
    )
    if not all(a.published for a in parts):
        return ()
    known = types.resolve((a.type_oid, a.typmod) for a in parts)
    return tuple(
        KeyPart(a.name, _kind(known[a.type_oid, a.typmod].oid, orderly=a.orderly)) for a in parts
    )


def _kind(oid: int, *, orderly: bool) -> KeyKind | None:
    if oid in INTEGERS:
        return "int"
    if oid == UUID:
        return "uuid"
    return "text" if oid in TEXTS and orderly else None


def schema_of_table(
    database: str, description: Description, types: Types, captured: ColumnsConfig | None = None
) -> Schema:
    """The schema of the rows that the publication publishes of a table as it is now, with the
    captured columns only. Raises ``postgres.column_key_excluded``."""
    published = [a for a in description.attributes if a.published]
    known = types.resolve((a.type_oid, a.typmod) for a in published)
    columns = [
        _column(a.name, known[a.type_oid, a.typmod], required=a.required, key=a.place is not None)
        for a in published
    ]
    whole = _schema(database, description.schema, description.name, columns)
    return reduced(whole, kept(captured, whole))


def schema_of_relation(
    database: str, relation: Relation, description: Description | None, types: Types
) -> Schema:
    """The schema of streamed rows: names and types are the message's, what the message does not say
    (not null, the key of a table with REPLICA IDENTITY FULL) is the catalog's of now."""
    known = types.resolve((c.type_oid, c.typmod) for c in relation.columns)
    now = {a.name: a for a in description.attributes} if description else {}
    columns = []
    for c in relation.columns:
        attribute = now.get(c.name)
        in_key = attribute is not None and attribute.place is not None
        columns.append(
            _column(
                c.name,
                known[c.type_oid, c.typmod],
                required=attribute is not None and attribute.required,
                key=c.key if relation.identity in "di" else in_key,
            )
        )
    return _schema(database, relation.schema, relation.table, columns)


def _column(name: str, found: Type, *, required: bool, key: bool) -> Column:
    meaning = logical(found.oid, found.name, found.kind)
    return Column(name, found.native, meaning, not required, key)


def _schema(database: str, schema: str, table: str, columns: Sequence[Column]) -> Schema:
    names = (("database", database), ("schema", schema), ("table", table))
    return Schema(f"{schema}.{table}", names, tuple(columns))


_ESTIMATES = """
WITH RECURSIVE part AS (
  SELECT o AS root, o AS oid FROM unnest($1::oid[]) AS u(o)
  UNION ALL
  SELECT p.root, i.inhrelid FROM part p JOIN pg_catalog.pg_class c USING (oid)
  JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'p'
)
SELECT p.root, CASE WHEN bool_or(c.reltuples < 0) THEN NULL ELSE sum(c.reltuples)::bigint END
FROM part p JOIN pg_catalog.pg_class c USING (oid) WHERE c.relkind <> 'p' GROUP BY 1
"""


def row_estimates(session: Session, oids: Iterable[int]) -> dict[int, int | None]:
    """How many rows the statistics give the tables; None where they were never gathered."""
    wanted = list(oids)
    listed = "{" + ",".join(map(str, wanted)) + "}"
    found: dict[int, int | None] = dict.fromkeys(wanted)
    for oid, rows in session.rows(_ESTIMATES, (listed,), doing="estimating the rows"):
        found[int(str(oid))] = None if rows is None else int(rows)
    return found
