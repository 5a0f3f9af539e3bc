"""What published events are known by, inside the embedded engine's transactions: numbers of
producers' sessions, and hashes of topics with deduplication.

A hash counts as long as its event can be read: once that was trimmed or its key revoked, an equal
event is no duplicate of anything, and takes the hash over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import apsw

from ensign_core.change import Offset
from ensign_core.engine.claims import ClaimedError, Claims, Numbers, Window
from ensign_core.engine.database import Database

RUNS_MAX = 1024
"""Runs of consecutive sequences that are remembered of a session in a topic. An append adds one, or
some where the session's events lie among others'."""

RUNS_KEPT_MIN = RUNS_MAX - RUNS_MAX // 8
"""Runs that are left when there were too many: not every append has to look for the oldest."""

SESSIONS_MAX = 10_000
"""Sessions that are remembered of a topic; with more the one not seen for longest is forgotten."""

SESSION_AGE_US_MAX = 30 * 86_400_000_000
"""A session that was not seen for so long is forgotten: a retry from it would be stored again."""

FORGET_MAX = 10_000
"""Hashes that one transaction removes."""


def check(db: apsw.Connection, claims: Iterable[Claims]) -> None:
    """Raise ClaimedError unless all of it holds."""
    for claim in claims:
        row = _topic(db, claim)
        if row is None:
            continue
        number, policy = row
        if policy != claim.policy:
            raise ClaimedError
        for session, numbers in _by_session(claim.numbers).items():
            last = max(n.first + n.events - 1 for n in numbers)
            window = _window(db, number, session, min(n.first for n in numbers), last)
            if any(_taken(some, window) for some in numbers):
                raise ClaimedError
        if not claim.latest and _found(db, number, [key for key, _ in claim.hashes]):
            raise ClaimedError


def _topic(db: apsw.Connection, claim: Claims) -> tuple[int, bytes | None] | None:
    """A topic's number and policy; None if there is none, as was claimed."""
    for number, topic_id, policy in db.execute(
        "SELECT id, ulid, policy FROM topics WHERE name = ?", (claim.topic,)
    ):
        if topic_id == claim.topic_id:
            return number, policy
        raise ClaimedError
    if claim.topic_id is not None:
        raise ClaimedError
    return None


def _by_session(numbers: Iterable[Numbers]) -> dict[bytes, list[Numbers]]:
    sessions: dict[bytes, list[Numbers]] = {}
    for some in numbers:
        sessions.setdefault(some.session, []).append(some)
    return sessions


def _taken(numbers: Numbers, window: Window) -> bool:
    end = numbers.first + numbers.events
    return numbers.first <= window.forgotten or any(
        first < end and last >= numbers.first for first, last, _ in window.runs
    )


def _window(db: apsw.Connection, topic: int, session: bytes, first: int, last: int) -> Window:
    for producer, newest, forgotten in db.execute(
        "SELECT id, newest, forgotten FROM producers WHERE topic = ? AND session = ?",
        (topic, session),
    ):
        runs = first <= newest and list(
            db.execute(
                "SELECT first, last, offset FROM sequences "
                "WHERE producer = ? AND first <= ? AND last >= ? ORDER BY first",
                (producer, last, first),
            )
        )
        return Window(newest, forgotten, runs or ())
    return Window()


_FOUND = (
    "SELECT hash, offset FROM json_each(?2) CROSS JOIN dedup ON topic = ?1 AND hash = unhex(value) "
    "WHERE (SELECT base + events > offset AND EXISTS (SELECT 1 FROM keys.data_keys "
    "WHERE id = key_id AND state <> 'revoked') FROM frames "
    "WHERE frames.topic = ?1 AND base <= offset ORDER BY base DESC LIMIT 1)"
)


def _found(db: apsw.Connection, topic: int, hashes: Sequence[bytes]) -> dict[bytes, Offset]:
    if not hashes:
        return {}
    return dict(db.execute(_FOUND, (topic, json.dumps([key.hex() for key in hashes]))))


def remember(db: apsw.Connection, claims: Iterable[Claims], offsets: Sequence[Offset]) -> None:
    """Note what was appended, ``offsets`` being where the frames begin."""
    for claim in claims:
        base = offsets[claim.frame] if claim.frame >= 0 else 0
        if not (claim.numbers or claim.hashes or claim.duplicates):
            continue
        ((topic,),) = db.execute("SELECT id FROM topics WHERE name = ?", (claim.topic,))
        for session, numbers in _by_session(claim.numbers).items():
            runs = [
                (n.first, n.first + n.events - 1, base + n.at if n.at >= 0 else n.offset)
                for n in numbers
            ]
            _remember_runs(db, topic, session, runs, claim.at_us)
        hashes = [(key, base + index) for key, index in claim.hashes]
        superseded = _supersede(db, topic, hashes) if claim.latest else 0
        _remember_hashes(db, topic, hashes)
        if claim.duplicates + superseded:
            db.execute(
                "UPDATE topics SET duplicates = duplicates + ?, superseded = superseded + ? "
                "WHERE id = ?",
                (claim.duplicates + superseded, superseded, topic),
            )


def _remember_runs(
    db: apsw.Connection, topic: int, session: bytes, runs: Sequence[tuple[int, int, Offset]],
    at_us: int,
) -> None:  # fmt: skip
    ((producer, count, known),) = db.execute(
        "INSERT INTO producers (topic, session, newest, runs, seen_us) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (topic, session) DO UPDATE SET newest = max(newest, excluded.newest), "
        "runs = runs + excluded.runs, seen_us = excluded.seen_us RETURNING id, runs, runs > ?4",
        (topic, session, max(last for _, last, _ in runs), len(runs), at_us),
    )
    db.executemany("INSERT INTO sequences VALUES (?, ?, ?, ?)", [(producer, *run) for run in runs])
    if count > RUNS_MAX:
        oldest = list(
            db.execute(
                "SELECT first, last FROM sequences WHERE producer = ? ORDER BY first LIMIT ?",
                (producer, count - RUNS_KEPT_MIN),
            )
        )
        forgotten = oldest[-1][1]
        db.execute("DELETE FROM sequences WHERE producer = ? AND first <= ?",
                   (producer, forgotten))  # fmt: skip
        db.execute("UPDATE producers SET forgotten = ?, runs = ? WHERE id = ?",
                   (forgotten, RUNS_KEPT_MIN, producer))  # fmt: skip
    if not known:
        _expire(db, topic, producer, at_us)


def _expire(db: apsw.Connection, topic: int, fresh: int, at_us: int) -> None:
    """Forget sessions beside a ``fresh`` one, not seen for too long, or too many."""
    old = list(
        db.execute(
            "SELECT id FROM producers WHERE topic = ?1 AND id <> ?2 AND seen_us < ?3 UNION "
            "SELECT id FROM (SELECT id FROM producers WHERE topic = ?1 AND id <> ?2 "
            "ORDER BY seen_us DESC LIMIT -1 OFFSET ?4)",
            (topic, fresh, at_us - SESSION_AGE_US_MAX, SESSIONS_MAX - 1),
        )
    )
    db.executemany("DELETE FROM sequences WHERE producer = ?", old)
    db.executemany("DELETE FROM producers WHERE id = ?", old)


def _remember_hashes(
    db: apsw.Connection, topic: int, hashes: Iterable[tuple[bytes, Offset]]
) -> None:
    db.executemany(
        "INSERT INTO dedup VALUES (?, ?, ?) "
        "ON CONFLICT (topic, hash) DO UPDATE SET offset = excluded.offset",
        [(topic, key, offset) for key, offset in hashes],
    )


def _supersede(db: apsw.Connection, topic: int, hashes: Sequence[tuple[bytes, Offset]]) -> int:
    """Mark those that have the hashes now, and all but the last of equals; how many."""
    last = _found(db, topic, [key for key, _ in hashes])
    old: list[tuple[int, Offset]] = []
    for key, offset in hashes:
        if key in last:
            old.append((topic, last[key]))
        last[key] = offset
    db.executemany("INSERT OR IGNORE INTO superseded VALUES (?, ?)", old)
    return len(old)


class PublishingStore:
    """Implements `ensign_core.engine.claims.Publishing`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _number(self, topic_id: bytes) -> int:
        rows = self._database.rows("SELECT id FROM topics WHERE ulid = ?", topic_id)
        return rows[0][0] if rows else -1

    def window(self, topic_id: bytes, session: bytes, first: int, last: int) -> Window:
        with self._database.reading() as db:
            return _window(db, self._number(topic_id), session, first, last)

    def duplicates(self, topic_id: bytes, hashes: Sequence[bytes]) -> dict[bytes, Offset]:
        with self._database.reading() as db:
            return _found(db, self._number(topic_id), hashes)

    def superseded(self, topic_id: bytes, first: Offset, last: Offset) -> list[Offset]:
        return [
            row[0]
            for row in self._database.rows(
                "SELECT offset FROM superseded WHERE topic = (SELECT id FROM topics "
                "WHERE ulid = ?) AND offset BETWEEN ? AND ?",
                topic_id, first, last,
            )
        ]  # fmt: skip

    def seed(
        self, topic_id: bytes, hashes: Sequence[tuple[bytes, Offset]], *, latest: bool
    ) -> None:
        with self._database.transaction() as db:
            for (topic,) in list(db.execute("SELECT id FROM topics WHERE ulid = ?", (topic_id,))):
                known = _found(db, topic, [key for key, _ in hashes])
                found = dict(hashes if latest else reversed(hashes))
                fresh = [
                    (key, offset)
                    for key, offset in found.items()
                    if key not in known or (latest and known[key] < offset)
                ]
                _remember_hashes(db, topic, fresh)
                # Since they were read a key may have been revoked, and nothing may be left of it.
                kept = _found(db, topic, [key for key, _ in fresh])
                db.executemany(
                    "DELETE FROM dedup WHERE topic = ? AND hash = ?",
                    [(topic, key) for key, _ in fresh if key not in kept],
                )

    def seeded(self, topic_id: bytes, policy: bytes, end: Offset) -> bool:
        with self._database.transaction() as db:
            db.execute("UPDATE topics SET policy = ? WHERE ulid = ? AND next_offset = ?",
                       (policy, topic_id, end))  # fmt: skip
            return db.changes() > 0

    def keep_hashes(self, topic_id: bytes, prefix: bytes | None) -> None:
        least, most = b"", b"\xff" * 64
        ranges = [(least, most)] if prefix is None else [
            (least, prefix), (prefix + most, most),
        ]  # fmt: skip
        number = self._number(topic_id)
        for low, high in ranges:
            removed = FORGET_MAX
            while removed == FORGET_MAX:
                with self._database.transaction() as db:
                    db.execute(
                        "DELETE FROM dedup WHERE topic = ?1 AND hash IN (SELECT hash FROM dedup "
                        "WHERE topic = ?1 AND hash >= ?2 AND hash < ?3 LIMIT ?4)",
                        (number, low, high, FORGET_MAX),
                    )
                    removed = db.changes()
