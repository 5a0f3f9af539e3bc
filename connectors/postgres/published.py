"""How a publication has one table: column list, row filter, generated columns. Catalog queries, on
the query connection."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from zlib import crc32

from connectors.postgres.session import Session

LISTS_VERSION_MIN: Final = 150000
"""The first version whose publications have column lists, row filters and whole schemas."""

_location = re.compile(r" :location -?\d+")

_PART = """
SELECT to_jsonb(p) ->> 'pubgencols' = 's', array_to_string(r.prattrs::int2[], ','),
       pg_get_expr(r.prqual, r.prrelid)
FROM pg_catalog.pg_publication p
JOIN pg_catalog.pg_class c ON c.oid = $1::oid
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n
                  WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace)
WHERE p.pubname = $2
"""
"""Asked without pg_publication_tables, which waits for locks on all tables since version 18."""


class PublishedPart(NamedTuple):
    """What is published of a table. ``attnums`` are a column list's, None where there is none;
    ``row_filter`` is an SQL expression."""

    generated: bool = False
    attnums: frozenset[str] | None = None
    row_filter: str | None = None

    def has(self, attnum: str, generated: str) -> bool:
        """Whether a column is published; ``generated`` is its pg_attribute.attgenerated."""
        if self.attnums is not None:
            return attnum in self.attnums
        return not generated or (generated == "s" and self.generated)


def published_part(session: Session, publication: str, oid: int) -> PublishedPart:
    """What a publication has of a table now: all of it before version 15."""
    if session.conn.server_version < LISTS_VERSION_MIN:
        return PublishedPart()
    for generated, listed, row_filter in session.rows(_PART, (str(oid), publication)):
        attnums = None if listed is None else frozenset(listed.split(","))
        return PublishedPart(generated == "t", attnums, row_filter)
    return PublishedPart()


_ALONE = """
SELECT p.pubviaroot, r.oid, to_jsonb(r) ->> 'prattrs', to_jsonb(r) ->> 'prqual'
FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r
  ON r.prpubid = p.oid AND r.prrelid = $2::oid{}
WHERE p.pubname = $1
"""
_NOT_WITH_SCHEMA = """
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n
                  JOIN pg_catalog.pg_class c ON c.relnamespace = n.pnnspid
                  WHERE n.pnpubid = p.oid AND c.oid = r.prrelid)
"""


class PublishedAlone(NamedTuple):
    """``member`` is the table's oid in pg_publication_rel, ``filter`` its `filter_mark`; both are 0
    where it is published otherwise, or not at all."""

    via_root: bool
    member: int
    filter: int


def published_alone(session: Session, publication: str, oid: int) -> PublishedAlone | None:
    """How a table is published by itself now; None without the publication."""
    lists = session.conn.server_version >= LISTS_VERSION_MIN
    query = _ALONE.format(_NOT_WITH_SCHEMA if lists else "")
    for via_root, member, attrs, qual in session.rows(query, (publication, str(oid))):
        return PublishedAlone(via_root == "t", int(member or 0), filter_mark(attrs, qual))
    return None


def filter_mark(attrs: str | None, qual: str | None) -> int:
    """Short for a column list and a row filter as pg_publication_rel stores them, where renamed
    columns change neither; 0 where there are none. Two of one mark pass for unchanged. Up to
    version 16 a filter says too at which character of the statement each of its parts stood."""
    if not attrs and not qual:
        return 0
    return crc32(f"{attrs} {_location.sub('', qual or '')}".encode())
