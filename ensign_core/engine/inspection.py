"""The embedded engine's data looked at as a whole, while others use it: what can be seen to be
wrong without a key, and copies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from ensign_core.engine.connection import BUSY_WAIT_MS_MAX, classified
from ensign_core.engine.database import Database
from ensign_core.engine.inspected import Flaw, Record

FLAWS_MAX = 100
"""Flaws of one kind that are named."""

BODIES_AT_ONCE = 1 << 26
"""Bodies whose uses are counted in one pass over the frames: a byte of memory each."""

BODY_MAX = 1 << 40
"""Numbers of bodies rise one by one: none comes to this."""

COPY_PAGES = 1024
"""Pages that a step of a copy takes."""

OVERLAPS = """
SELECT ulid, base, last, base < prior FROM (
    SELECT topic, base, base + events - 1 AS last, seq, lag(base + events) OVER ordered AS prior,
        lag(seq) OVER ordered AS before FROM frames WHERE ?1 IS NULL OR topic = ?1
    WINDOW ordered AS (PARTITION BY topic ORDER BY base)
) JOIN topics ON topics.id = topic WHERE base < prior OR seq < before LIMIT ?2
"""

BACKWARDS = """
SELECT ulid, base FROM (
    SELECT topic, base, lag(base) OVER (PARTITION BY topic ORDER BY high_us, base) AS before
    FROM frames WHERE ?1 IS NULL OR topic = ?1
) JOIN topics ON topics.id = topic WHERE base < before LIMIT ?2
"""

BODILESS = """
SELECT ulid, base, base + frames.events - 1 FROM frames JOIN topics ON topics.id = topic
WHERE (?1 IS NULL OR topic = ?1) AND NOT EXISTS (SELECT 1 FROM bodies WHERE id = body) LIMIT ?2
"""

TOPICLESS = "SELECT count(*) FROM frames WHERE topic NOT IN (SELECT id FROM topics)"

COUNTED = """
SELECT ulid, topics.events, bytes, next_offset, sum(frames.events - removed), sum(length(data)),
    max(base + frames.events)
FROM topics LEFT JOIN frames ON topic = topics.id LEFT JOIN bodies ON bodies.id = body
WHERE ?1 IS NULL OR topics.id = ?1 GROUP BY topics.id
"""

USES = """
SELECT body FROM frames WHERE body BETWEEN ?1 AND ?2
UNION ALL SELECT body FROM held WHERE body BETWEEN ?1 AND ?2
"""

RECORDS = """
SELECT 'position', name, NULL, position FROM pipelines WHERE position IS NOT NULL
UNION ALL SELECT 'kept', pipeline, name, value FROM kept
UNION ALL SELECT 'status', name, NULL, status FROM statuses
UNION ALL SELECT 'signal', pipeline, NULL, signal FROM signals
UNION ALL SELECT 'letter', pipeline, NULL, error FROM replays WHERE error IS NOT NULL
UNION ALL SELECT 'schema', id, NULL, box FROM schemas
UNION ALL SELECT 'policy', ulid, NULL, policy FROM topics WHERE policy IS NOT NULL
"""


class Inspector:
    """Implements `ensign_core.engine.inspected.Inspection`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def records(self) -> Iterator[Record]:
        with classified(self._database.path):
            for kind, first, second, box in self._database.connection().execute(RECORDS):
                of = first % (1 << 64) if kind == "schema" else first
                yield Record(kind, (of,) if second is None else (of, second), box)

    def flaws(self, topic_id: bytes | None = None) -> list[Flaw]:
        found = self._of_files()
        if found:
            # What is read from damaged pages would only be said twice.
            return found
        number = None
        if topic_id is not None:
            rows = self._database.rows("SELECT id FROM topics WHERE ulid = ?", topic_id)
            number = rows[0][0] if rows else -1
        found = [*self._of_places(number), *self._of_counts(number)]
        return found if topic_id is not None else found + self._of_bodies()

    def _of_files(self) -> list[Flaw]:
        """What SQLite itself says of its files."""
        return [
            Flaw("engine.damaged", f"{file} is damaged: {' '.join(str(text).split())}.")
            for name, file in (("main", "ensign.db"), ("keys", "keys.db"))
            for (text,) in self._database.rows(f"PRAGMA {name}.quick_check({FLAWS_MAX})")
            if text != "ok"
        ]

    def _of_places(self, topic: int | None) -> Iterator[Flaw]:
        """Frames that are not where they can be."""
        for topic_id, first, last, overlaps in self._database.rows(OVERLAPS, topic, FLAWS_MAX):
            sentence = "A frame lies behind one with later offsets."
            if overlaps:
                sentence = "A frame has offsets that another one has too."
            yield Flaw("frame.misplaced", sentence, topic_id, first, last)
        for topic_id, first in self._database.rows(BACKWARDS, topic, FLAWS_MAX):
            sentence = "The running maximum of commit times is less than before."
            yield Flaw("frame.misplaced", sentence, topic_id, first, first)
        for topic_id, first, last in self._database.rows(BODILESS, topic, FLAWS_MAX):
            yield Flaw("frame.missing", "A frame's body is not there.", topic_id, first, last)

    def _of_counts(self, topic: int | None) -> Iterator[Flaw]:
        """Topics that say of themselves what their frames do not."""
        for topic_id, events, size, following, *counted in self._database.rows(COUNTED, topic):
            found_events, found_size, end = (count or 0 for count in counted)
            if (events, size) != (found_events, found_size) or end > following:
                yield Flaw(
                    "topic.miscounted",
                    f"The topic says that it has {events} events in {size} bytes up to offset "
                    f"{following}; its frames have {found_events} in {found_size} up to {end}.",
                    topic_id,
                )

    def _of_bodies(self) -> list[Flaw]:
        """Bodies that are not of exactly one frame, as of one moment."""
        db = self._database.connection()
        shared = unused = 0
        with classified(self._database.path), db:
            ((first, last),) = db.execute(
                "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM bodies"
            )
            ((lost,),) = db.execute(TOPICLESS)
            if first < 0 or last > BODY_MAX:
                return [Flaw("engine.damaged", "A frame's body has a number that none can have.")]
            for start in range(first, last + 1, BODIES_AT_ONCE):
                some = (start, min(start + BODIES_AT_ONCE - 1, last))
                used = bytearray(some[1] - start + 1)
                for (body,) in db.execute(USES, some):
                    shared += used[body - start]
                    used[body - start] = 1
                for (body,) in db.execute("SELECT id FROM bodies WHERE id BETWEEN ? AND ?", some):
                    unused += not used[body - start]
        sentences = {
            f"{lost} frames are of no topic.": lost,
            f"{shared} frames have the body of another one.": shared,
            f"{unused} bodies are of no frame.": unused,
        }
        return [Flaw("frame.misplaced", text) for text, count in sentences.items() if count]

    def copy(self, folder: Path, progress: Callable[[int, int], None]) -> set[bytes]:
        path = self._database.path
        with classified(path), contextlib.ExitStack() as stack:
            data, keys = (apsw.Connection(str(path / n)) for n in ("ensign.db", "keys.db"))
            for db in (data, keys):
                stack.callback(db.close)
                db.set_busy_timeout(BUSY_WAIT_MS_MAX)
            data.execute("BEGIN")
            # The first look at a table takes the moment that is copied.
            list(data.execute("SELECT 1 FROM meta LIMIT 1"))
            _copy(data, folder / "ensign.db", progress)
            data.execute("COMMIT")
            _copy(keys, folder / "keys.db", lambda done, of: None)
            return {row[0] for row in data.execute("SELECT ulid FROM topics")}


def _copy(source: apsw.Connection, target: Path, progress: Callable[[int, int], None]) -> None:
    made = apsw.Connection(str(target))
    try:
        # Whoever has the copy made sees to it that it is on the disk, all at once.
        made.pragma("synchronous", "OFF")
        with made.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(COPY_PAGES)
                progress(backup.page_count - backup.remaining, backup.page_count)
    finally:
        made.close()
    target.chmod(0o600)
