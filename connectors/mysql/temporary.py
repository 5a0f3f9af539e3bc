"""Temporary tables of sessions whose statements are logged: one may have the name of a captured
table, and hides it from its session. What the session says of the name is not of the captured
table. Pure: no I/O.

Both servers flag statements that met a temporary table (``LOG_EVENT_THREAD_SPECIFIC_F``), but also
later ones of the same procedure, and those with ``CONNECTION_ID()``, which are about other tables:
so what counts is which tables a session has made and not dropped. Servers log the drop at a
session's end. They log a DROP of both kinds in two, where each says what it is about; a session
that logs rows has none of this in the log but RENAME TABLE on MariaDB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from connectors.mysql import ddl
from connectors.mysql.words import Name

Hidden = frozenset[Name]
"""The temporary tables of one session."""


def without(
    said: ddl.Statement, hidden: Hidden, place_of: Callable[[Name], Name]
) -> tuple[ddl.Statement, Hidden]:
    """What is left of a session's statement without what is about its temporary tables, and which
    it has afterwards."""
    if isinstance(said, ddl.Temporary):
        places = frozenset(map(place_of, said.tables))
        return ddl.Nothing(), hidden - places if said.dropped else hidden | places
    if isinstance(said, ddl.Altered) and place_of(said.table) in hidden:
        pairs = () if said.target is None else ((said.table, said.target),)
        return ddl.Nothing(), _renamed(pairs, hidden, place_of)[1]
    if isinstance(said, ddl.Renamed):
        left, after = _renamed(said.pairs, hidden, place_of)
        return ddl.Renamed(left) if left else ddl.Nothing(), after
    if isinstance(said, ddl.Gone) and said.emptied:
        kept = tuple(table for table in said.tables if place_of(table) not in hidden)
        return replace(said, tables=kept), hidden
    if isinstance(said, ddl.Created) and said.like and place_of(said.like) in hidden:
        return replace(said, like=None), hidden
    return said, hidden


Pairs = tuple[tuple[Name, Name], ...]


def _renamed(
    pairs: Pairs, hidden: Hidden, place_of: Callable[[Name], Name]
) -> tuple[Pairs, Hidden]:
    """The pairs that are not of temporary tables, and how these are called afterwards."""
    left = []
    for old, new in pairs:
        if place_of(old) in hidden:
            hidden = hidden - {place_of(old)} | {place_of(new)}
        else:
            left.append((old, new))
    return tuple(left), hidden
