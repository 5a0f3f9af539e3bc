"""Replica identities, as `ensign check` looks at them: where UPDATE and DELETE statements fail
while a table is published, where events lack a key or an image, and the statements that mend it.

The server's rules are those of CheckCmdReplicaIdentity (``src/backend/executor/
execReplication.c``): of a partitioned table the identity of each leaf counts, while column list and
row filter are those of the table that is published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from connectors.postgres.catalog import Table
from connectors.postgres.errors import error
from connectors.postgres.publication import Publication, spelled
from connectors.postgres.published import LISTS_VERSION_MIN
from connectors.postgres.session import Session
from ensign_core.plugin import Finding

GENERATED_VERSION_MIN: Final = 180000
"""The first version that refuses changes of rows whose identity has generated columns which the
publication leaves out."""

_RELATIONS = """
WITH RECURSIVE part AS (
  SELECT o AS captured, o AS oid FROM unnest($1::oid[]) o
  UNION ALL
  SELECT part.captured, i.inhrelid FROM part JOIN pg_catalog.pg_class p USING (oid)
  JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid WHERE p.relkind = 'p'
)
SELECT part.captured::bigint, part.oid::bigint, n.nspname, c.relname, c.relkind,
       c.relpersistence, c.relreplident,
       (SELECT json_agg(json_build_array(a.attname, a.attgenerated) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT json_agg(json_build_array(ic.relname, i.indisreplident, i.indisprimary,
           i.indimmediate, (
           SELECT json_agg(json_build_array(a.attname, a.attnotnull))
           FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(attnum, place)
           LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum
           WHERE u.place <= i.indnkeyatts)) ORDER BY i.indisprimary DESC, i.indexrelid)
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL)
FROM part JOIN pg_catalog.pg_class c ON c.oid = part.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY 3, 4
"""

_LISTS = """
SELECT r.prrelid::bigint, to_jsonb(r) ->> 'prqual', pg_get_expr(r.prqual, r.prrelid),
       (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[])),
       (SELECT json_object_agg(a.attnum, a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = r.prrelid AND a.attnum > 0)
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = $1::oid
"""
_GENERATED = """
SELECT to_jsonb(p) ->> 'pubgencols' = 's' FROM pg_catalog.pg_publication p WHERE oid = $1::oid
"""
_variable = re.compile(r":varattno (\d+)")


@dataclass(frozen=True)
class _Listing:
    """What a publication says of a table: its columns, None for all, the columns of its row filter
    and the filter as SQL."""

    columns: frozenset[str] | None = None
    filtering: frozenset[str] = frozenset()
    row_filter: str = ""


@dataclass(frozen=True)
class _Relation:
    """A captured table or one of its partitions. ``generated`` are kinds by column; ``identity``
    are the columns of the replica identity, ``primary`` those of a primary key that may be one,
    ``key`` those of the events' key, each None where there is none; ``candidate`` is the name of
    another index that may be one."""

    schema: str
    name: str
    kind: str
    persistence: str
    replident: str
    generated: dict[str, str]
    identity: frozenset[str] | None
    primary: frozenset[str] | None
    key: frozenset[str] | None
    candidate: str

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def spelled(self) -> str:
        return f"{spelled(self.schema)}.{spelled(self.name)}"

    def mended(self, *, short: bool = False) -> str:
        """The statement that gives the table an identity: the best that it has an index for, else
        the whole row unless it is to be ``short``."""
        if self.primary is not None:
            identity = "DEFAULT"
        elif self.candidate:
            identity = f"USING INDEX {spelled(self.candidate)}"
        elif short:
            return ""
        else:
            identity = "FULL"
        return f"ALTER TABLE {self.spelled} REPLICA IDENTITY {identity}"

    def whole(self) -> str:
        return f"ALTER TABLE {self.spelled} REPLICA IDENTITY FULL"


def findings(
    session: Session, wanted: Iterable[Table], published: Publication | None, creation: str
) -> Iterator[Finding]:
    """Of the captured tables and their partitions, as they are published, or will be once the
    publication is made by the statement ``creation``."""
    captured = list(wanted)
    listings = _listings(session, captured, published)
    generated = published is not None and _publishes_generated(session, published)
    version = session.conn.server_version
    relations = _relations(session, captured)
    for table in captured:
        top = relations[table.oid][table.oid]
        listing = listings.get(table.oid, _Listing())
        for relation in relations[table.oid].values():
            yield from _of_relation(top, relation)
            if relation.kind != "r" or relation.persistence != "p" or relation.identity is None:
                continue
            if published is not None:
                yield from _of_listing(relation, top, listing, published)
            if version >= GENERATED_VERSION_MIN and listing.columns is None:
                setting = "publish_generated_columns = stored)"
                statement = f"{creation.removesuffix(')')}, {setting}"
                if published is not None:
                    statement = f"ALTER PUBLICATION {spelled(published.name)} SET ({setting}"
                yield from _of_generated(relation, statement, generated=generated)
        yield from _of_key(top, listing, generated=generated)


def _of_relation(top: _Relation, found: _Relation) -> Iterator[Finding]:
    """A table or a leaf for itself, and against the root under whose name its rows come."""
    if found.kind == "p":
        return
    if found.kind == "f" or found.persistence != "p":
        yield _finding("warning", "partition_unlogged", table=found.full_name, root=top.full_name)
    elif found.identity is None:
        yield _finding("error", "identity_missing", table=found.full_name, statement=found.mended())
    elif found is not top and top.replident == "f" and found.replident != "f":
        yield _finding(
            "warning", "identity_differs", table=found.full_name, root=top.full_name,
            statement=found.whole(),
        )  # fmt: skip


def _of_listing(
    found: _Relation, top: _Relation, listing: _Listing, published: Publication
) -> Iterator[Finding]:
    """A column list has to have all of the identity, the identity all of a row filter."""
    assert found.identity is not None
    facts = {"table": found.full_name, "publication": published.name}
    whole = found.replident == "f"
    if listing.columns is not None and (whole or not found.identity <= listing.columns):
        statement = found.mended(short=True) if whole else ""
        keys = found.identity if not whole else found.primary or frozenset()
        if not statement or not keys <= listing.columns:
            statement = _relisted(top, listing, published, keys, whole=whole)
        yield _finding("error", "identity_listed", **facts, statement=statement)
    elif not whole and not listing.filtering <= found.identity:
        yield _finding("error", "identity_filtered", **facts, statement=found.whole())


def _relisted(
    top: _Relation, listing: _Listing, published: Publication, keys: frozenset[str], *, whole: bool
) -> str:
    """Put the table into the publication anew, with the identity in its column list, or without a
    list where the identity is the whole row."""
    name, columns = spelled(published.name), ""
    if not whole:
        in_order = [c for c in top.generated if c in keys or c in (listing.columns or ())]
        columns = f" ({', '.join(map(spelled, in_order))})"
    where = f" WHERE ({listing.row_filter})" if listing.row_filter else ""
    return (
        f"BEGIN; ALTER PUBLICATION {name} DROP TABLE ONLY {top.spelled}; ALTER PUBLICATION {name} "
        f"ADD TABLE ONLY {top.spelled}{columns}{where}; COMMIT"
    )


def _of_generated(found: _Relation, publishing: str, *, generated: bool) -> Iterator[Finding]:
    """Where the identity has generated columns: since version 18. ``publishing`` is the statement
    that publishes stored ones."""
    assert found.identity is not None
    kinds = {found.generated[column] for column in found.identity} - {""}
    if not kinds or (generated and kinds == {"s"}):
        return
    statement = found.mended(short=True) if found.replident == "f" else ""
    if kinds == {"s"}:
        statement = publishing
    yield _finding(
        "error", "identity_generated", table=found.full_name,
        statement=statement or "Give the table a key without generated columns",
    )  # fmt: skip


def _of_key(top: _Relation, listing: _Listing, *, generated: bool) -> Iterator[Finding]:
    """Whether events have a key."""
    key = top.key
    if key is None and (top.replident == "f" or top.kind == "p"):
        statement = top.mended(short=True) or f"ALTER TABLE {top.spelled} ADD PRIMARY KEY (...)"
        yield _finding("warning", "key_missing", table=top.full_name, statement=statement)
    elif key is not None and listing.columns is None:
        lost = sorted(c for c in key if top.generated[c] and not generated)
        if lost:
            column = f"{top.full_name}.{lost[0]}"
            yield _finding("warning", "key_unpublished", table=top.full_name, column=column)


def _finding(level: Literal["warning", "error"], word: str, **facts: object) -> Finding:
    found = error(word, **facts)
    return Finding(level, found.code, found.sentence, found.remedy)


def _relations(session: Session, captured: list[Table]) -> dict[int, dict[int, _Relation]]:
    """By oid of the captured table and oid of the relation."""
    oids = "{" + ",".join(str(table.oid) for table in captured) + "}"
    found: dict[int, dict[int, _Relation]] = {table.oid: {} for table in captured}
    for row in session.rows(_RELATIONS, (oids,), doing="looking at replica identities"):
        captured_oid, oid, schema, name, kind, persistence, replident, columns, indexes = row
        generated = {str(c): str(g) for c, g in json.loads(columns or "[]")}
        primary = key = identity = None
        candidate = ""
        for index, of_identity, of_primary, immediate, parts in json.loads(indexes or "[]"):
            names = frozenset(str(part) for part, _ in parts)
            if of_primary:
                primary = names if immediate else None
                key = names if str(replident) in "fn" else primary
            if of_identity and replident == "i":
                identity = names
            if not candidate and not of_primary and immediate and all(r for _, r in parts):
                candidate = str(index)
        if replident == "d":
            identity = primary
        elif replident == "i":
            key = identity
        elif replident == "f":
            identity = frozenset(generated)
        found[int(str(captured_oid))][int(str(oid))] = _Relation(
            str(schema), str(name), str(kind), str(persistence), str(replident), generated,
            identity, primary, key, candidate,
        )  # fmt: skip
    return {oid: relations for oid, relations in found.items() if oid in relations}


def _listings(
    session: Session, captured: list[Table], published: Publication | None
) -> dict[int, _Listing]:
    """Column lists and row filters in force, by oid."""
    if published is None or session.conn.server_version < LISTS_VERSION_MIN:
        return {}
    in_force = {table.oid for table in captured if published.filter(table)}
    found = {}
    for oid, tree, row_filter, columns, names in session.rows(_LISTS, (str(published.oid),)):
        if int(str(oid)) in in_force:
            by_number = json.loads(names or "{}")
            filtering = frozenset(by_number[n] for n in _variable.findall(tree or ""))
            listed = None if columns is None else frozenset(json.loads(columns))
            found[int(str(oid))] = _Listing(listed, filtering, row_filter or "")
    return found


def _publishes_generated(session: Session, published: Publication) -> bool:
    return session.rows(_GENERATED, (str(published.oid),))[0][0] == "t"
