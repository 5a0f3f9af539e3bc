"""Partitions that were attached to a captured table with rows in them: the log has no change for
these rows, so they are to be read. On the query connection and the source's thread."""

from __future__ import annotations

from typing import Final

from connectors.postgres.config import PostgresConfig
from connectors.postgres.position import Snapshots
from connectors.postgres.session import Session
from connectors.postgres.snapshot import Visible

XIDS: Final = 1 << 32
"""Transaction ids of the catalog are of 32 bits: an id that was frozen long ago may pass for a new
one, and then a partition is read for nothing."""

_ATTACHED = """
WITH RECURSIVE below AS (
  SELECT i.inhparent AS root, i.inhrelid AS oid, EDGES AS edges
  FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
  WHERE i.inhparent = ANY($1::oid[]) AND p.relkind = 'p' AND NOT i.inhdetachpending
  UNION ALL
  SELECT b.root, i.inhrelid, b.edges || EDGES
  FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid AND NOT i.inhdetachpending
), leaf AS (
  SELECT b.* FROM below b JOIN pg_catalog.pg_class c USING (oid)
  WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND cardinality(b.edges) > 0
)
SELECT now.shot, leaf.root, leaf.oid, array_to_string(leaf.edges, ',')
FROM (SELECT pg_current_snapshot() AS shot) now LEFT JOIN leaf ON true
ORDER BY 2, 3
""".replace(
    "EDGES",
    """CASE
    WHEN (i.xmin::text::bigint - $2::bigint % XIDS + XIDS) % XIDS
         < pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $2::bigint
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute s JOIN pg_catalog.pg_attribute a USING (attrelid)
        WHERE s.attrelid = i.inhrelid AND s.attnum = -6 AND s.xmin = i.xmin
          AND a.attnum > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin)
    THEN ARRAY[i.inhrelid || '/' || i.xmin] ELSE '{}'::text[] END""",
).replace("XIDS", str(XIDS))  # fmt: skip
"""``edges`` are those of a leaf's ways up that were made from transaction $2 on, each as partition
and transaction id. Not those made by CREATE TABLE PARTITION OF: attaching rewrites all columns of a
table, so that none is left of the command that made its system columns."""


def attached(
    session: Session, snapshots: Snapshots, config: PostgresConfig
) -> list[tuple[int, int]]:
    """The partitions with rows that were attached since this was last asked, as oids of the table
    that is captured and of the leaf. Each is told once, but perhaps again after a crash.

    ``snapshots.looked`` moves forward: a ``pg_snapshot``, and behind it the edges told already of
    transactions that it might not see, since it names no subtransactions. A table whose first chunk
    is still to be read shows them all itself; one that is being read is put off until it is done.
    """
    if config.partitions == "leaf":
        return []
    if not snapshots.looked:
        begin_looking(session, snapshots)
        return []
    text, _, rest = snapshots.looked.partition(" ")
    before, told = Visible.parse(text), set(rest.split(",")) - {""}
    known = "{" + ",".join(map(str, snapshots.done | snapshots.tables.keys())) + "}"
    doing = "looking for attached partitions"
    found: list[tuple[int, int]] = []
    put_off, now = False, before
    seen: set[str] = set()
    for shot, root, leaf, edges in session.rows(_ATTACHED, (known, str(before.xmin)), doing=doing):
        now = Visible.parse(str(shot))
        new = set(edges.split(",")) - told if edges else set()
        if not new:
            continue
        under_way = snapshots.tables.get(int(str(root)))
        if under_way is not None and under_way.begun:
            put_off = True
            continue
        seen |= new
        if under_way is None and _has_pages(session, str(leaf)):
            found.append((int(str(root)), int(str(leaf))))
    told |= seen
    looked = before if put_off else now
    kept = sorted(edge for edge in told if _may_be_unseen(looked, edge))
    snapshots.looked = f"{looked} {','.join(kept)}".rstrip()
    return found


def begin_looking(session: Session, snapshots: Snapshots) -> None:
    """What is attached from now on is looked for. Called before a table is read first."""
    rows = session.rows("SELECT pg_current_snapshot()", doing="reading the snapshot")
    snapshots.looked = str(rows[0][0])


def _may_be_unseen(looked: Visible, edge: str) -> bool:
    xid = int(edge.partition("/")[2])
    return (xid - looked.xmin) % XIDS < XIDS >> 1


def _has_pages(session: Session, oid: str) -> bool:
    """Whether a table may have rows: a locked one may."""
    size = session.query(
        "SELECT pg_relation_size($1::oid) > 0", (oid,), tolerate=("55P03",),
        doing="looking at a partition",
    )  # fmt: skip
    return isinstance(size, str) or size[0][0] == "t"
