"""The captured tables: how their rows are decoded where the stream stands. On the source's thread.

A structure is that of a table's last full metadata, else what was kept or read from the catalog;
statements advance it (`connectors.mysql.changes`). What is known is checked against every table
map; where they do not go together, and the catalog cannot help, that table is *stopped*: its rows
are left out, with a warning, until an operator asks for them again, and all others go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from connectors.mysql import rowimage
from connectors.mysql.ahead import Ahead
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error, name_facts
from connectors.mysql.position import Snapshots
from connectors.mysql.structures import PIECE, Structure, fits, sequence, structure_of
from connectors.mysql.tablemap import TableMap
from connectors.mysql.temporary import Hidden
from connectors.mysql.words import Name
from ensign_core.change import Schema
from ensign_core.errors import EnsignError

ASIDE: Final = "aside "
"""What the name of a kept piece begins with whose table is not captured."""

ASIDE_MAX: Final = 1000
"""Of so many tables that are not captured the structure is known: those made last."""


HIDDEN: Final = "hidden "
"""What the name of a kept piece begins with that has the temporary tables of a session."""


class Route(NamedTuple):
    """How the rows of one table map are decoded."""

    name: str
    schema: Schema
    decoder: rowimage.RowDecoder


class Tables:
    """One per source. ``structures`` are those of the captured tables, by name, and ``aside`` those
    of tables that were made while the source ran and are not captured: they may get the name of
    one that is. ``hidden`` are the temporary tables of sessions that log statements, by thread, as
    far as their names are those of captured tables. ``versions`` count what statements did to each,
    so that a chunk that was read before is noticed; ``changed`` are kept pieces that no batch has
    yet."""

    def __init__(
        self,
        ahead: Ahead,
        config: MysqlConfig,
        snapshots: Snapshots,
        structures: dict[str, Structure],
        aside: dict[str, Structure],
        hidden: dict[int, Hidden],
        warn: Callable[[EnsignError], None],
        *,
        pipeline: str,
    ) -> None:
        self._ahead = ahead
        self._config = config
        self._snapshots = snapshots
        self.structures = structures
        self.aside = aside
        self.hidden = hidden
        self._warn = warn
        self._pipeline = pipeline
        self._schemas = {name: s.schema(config.columns) for name, s in structures.items()}
        self.versions: dict[str, int] = {}
        self.changed: dict[str, bytes] = {}
        self._silent: set[str] = set()
        self._left_out: set[Name] = set()

    def another(self, place: Name) -> bool:
        """Whether the name of a table, joined, is that of another one already, since names may have
        dots: it is left out, with a warning where it would be captured."""
        name = ".".join(place)
        known = self.structures.get(name)
        if known is None or known.place == place:
            return False
        if place not in self._left_out and self._config.captures(*place):
            self._left_out.add(place)
            self._warn(error("name_taken", **name_facts(place)))
        return True

    def schema(self, name: str) -> Schema:
        """The schema of a known table's captured rows."""
        return self._schemas[name]

    def learn(self, structure: Structure) -> bool:
        """What a table is from now on; whether its captured rows are of another schema than
        before."""
        name = structure.name
        if self.structures.get(name) == structure:
            return False
        self.structures[name] = structure
        self.changed[PIECE + name] = structure.encode()
        before = self._schemas.get(name)
        self._schemas[name] = structure.schema(self._config.columns)
        return before != self._schemas[name]

    def forget(self, name: str) -> None:
        """A table is not there any more."""
        if self.structures.pop(name, None) is not None:
            self.changed[PIECE + name] = b""
        self._schemas.pop(name, None)
        self._snapshots.leave(name)
        self.touch(name)

    def put_aside(self, name: str, structure: Structure | None) -> None:
        """What a table is that is not captured; None where nobody knows, or it is gone."""
        if self.aside.pop(name, None) is not None:
            self.changed[ASIDE + name] = b""
        if structure is not None:
            self.aside[name] = structure
            self.changed[ASIDE + name] = structure.encode()
        while len(self.aside) > ASIDE_MAX:
            self.put_aside(next(iter(self.aside)), None)

    def hide(self, thread_id: int, hidden: Hidden) -> None:
        """The temporary tables of a session from here on."""
        hidden = frozenset(place for place in hidden if self._config.captures(*place))
        if hidden == self.hidden.get(thread_id, frozenset()):
            return
        piece = json.dumps(sorted(hidden)).encode() if hidden else b""
        self.changed[f"{HIDDEN}{thread_id}"] = piece
        self.hidden[thread_id] = hidden
        if not hidden:
            del self.hidden[thread_id]

    def show_all(self) -> None:
        """The server has started again: there are no temporary tables any more."""
        for thread_id in list(self.hidden):
            self.hide(thread_id, frozenset())

    def touch(self, name: str) -> None:
        """A chunk of the table that is under way is void."""
        self.versions[name] = self.versions.get(name, 0) + 1

    def route(self, found: TableMap) -> Route | None:
        """How to decode the rows behind a table map; None where they are not captured. Raises
        `connectors.mysql.ahead.NotYetError` where that cannot be told yet."""
        name = f"{found.database}.{found.table}"
        if not self._config.captures(found.database, found.table):
            return None
        if self.another((found.database, found.table)):
            return None
        if name in self._snapshots.stopped or self._is_sequence(name, found):
            return None
        structure = self._structure(name, found)
        if structure is None:
            return None
        try:
            decoder = rowimage.RowDecoder(
                structure.columns, structure.key, structure.keep(self._config.columns)
            )
        except LookupError as unknown:
            self.stop(name, "charset_unknown", what=str(unknown.args[0]))
            return None
        except ValueError:
            self.stop(name, "structure_unknown")
            return None
        return Route(name, self._schemas[name], decoder)

    def _is_sequence(self, name: str, found: TableMap) -> bool:
        """Whether it is no table, as far as anybody knows, but one of MariaDB's sequences."""
        if name in self.structures or not sequence(found):
            return False
        if found.metadata.names is not None:
            return True
        return self._ahead.read(found.database, found.table).structure is None

    def _structure(self, name: str, found: TableMap) -> Structure | None:
        """The structure behind a table map, which is known from then on."""
        before = self.structures.get(name)
        known = self._known(name, found)
        if known is None and found.metadata.names is None:
            self._unknown(name)
            return None
        try:
            structure = structure_of(found, known)
        except LookupError as unknown:
            self.stop(name, "charset_unknown", what=str(unknown.args[0]))
            return None
        fresh = before is None and name not in self._snapshots.tables
        if fresh and self._config.snapshot != "never":
            # Nobody told of it when it was made: what it had until now is in no event.
            self._snapshots.take_up(name, wipe=False)
        if self.learn(structure):
            self.touch(name)
            if before is not None:
                self._silent.add(name)
        return structure

    def _known(self, name: str, found: TableMap) -> Structure | None:
        """What is known of a table that goes with its table map, which may tell more."""
        known = self.structures.get(name)
        if found.metadata.names is not None:
            return known or self._ahead.read(found.database, found.table).structure
        if known is not None and known.sure and fits(known, found):
            return known
        read = self._ahead.read(found.database, found.table).structure
        if read is None or not fits(read, found):
            return None
        return read if self._ahead.untouched(found.database, found.table) else None

    def _unknown(self, name: str) -> None:
        """Rows come that nobody can read. Of a table whose snapshot has shown nothing yet, the
        snapshot will show them."""
        table = self._snapshots.tables.get(name)
        if table is None or table.cursor is not None:
            self.stop(name, "structure_unknown")
        else:
            self.touch(name)

    def stop(self, name: str, word: str, *, what: str = "") -> None:
        """Leave a table's rows out from here on."""
        if name not in self._snapshots.stopped:
            self._snapshots.stopped[name] = f"{word} {what}".rstrip()
            self.touch(name)
            self._warn(self.stopped(name))

    def stopped(self, name: str) -> EnsignError:
        """Why a table is stopped."""
        word, _, what = self._snapshots.stopped[name].partition(" ")
        return error(word, table=name, what=what, pipeline=self._pipeline)

    def resume(self, name: str) -> None:
        """An operator asks for a stopped table: what is it now? Whether that holds where the stream
        stands is seen when its rows come."""
        self._snapshots.stopped.pop(name, None)
        known = self.structures.get(name)
        places = [known.place] if known is not None else list(_places(name))
        found = (self._ahead.read(*place).structure for place in places)
        read = next((structure for structure in found if structure is not None), None)
        if read is not None and not (known is not None and known.sure):
            self.learn(replace(read, sure=False))

    def unannounced(self, name: str) -> bool:
        """Whether rows of another structure come than those before, of which no statement told."""
        if name not in self._silent:
            return False
        self._silent.discard(name)
        table = self._snapshots.tables.get(name)
        return table is None or table.cursor is not None


def _places(name: str) -> Iterator[Name]:
    """The tables whose joined name this may be."""
    parts = name.split(".")
    for at in range(1, len(parts)):
        yield ".".join(parts[:at]), ".".join(parts[at:])
