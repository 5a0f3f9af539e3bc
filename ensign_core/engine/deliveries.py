"""Events of work groups in the embedded engine: who holds which, what waits, what is parked.

Everything before a group's front in a topic has a row here or is done with, so the rows are as many
as there are unfinished events. Times are the wall clock's, in µs, as it was read in a transaction:
where it turns out to have been set back since, all times of the group go back with it, so that no
lease and no wait becomes longer than it was meant to be.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence

import apsw

from ensign_core.change import Offset
from ensign_core.engine.database import Database
from ensign_core.engine.wake import ring
from ensign_core.engine.work import Claimed, Claims, Finished, Front, Leased, Scan, WorkState
from ensign_core.errors import EnsignError

MEMBER_SILENT_US_MAX = 15_000_000
"""A member that was not heard of for longer counts as gone: nothing is left for it."""

FRONTS = """
SELECT topics.ulid, topics.name, coalesce(front, 0) AS next, (
    SELECT seq FROM frames WHERE topic = topics.id AND base + frames.events > coalesce(front, 0)
    AND base >= coalesce((SELECT max(base) FROM frames WHERE topic = topics.id
                          AND base <= coalesce(front, 0)), 0)
    ORDER BY base LIMIT 1
) AS seq
FROM json_each(?) CROSS JOIN topics ON topics.name = json_each.value
LEFT JOIN work_fronts ON work = ? AND topic = topics.id
WHERE next_offset > coalesce(front, 0) AND seq IS NOT NULL ORDER BY seq
"""

OTHERS = "SELECT 1 FROM work_members WHERE work = ? AND member <> ? AND seen_us >= ? LIMIT 1"
DUE = """
SELECT due_us FROM deliveries WHERE work = ?1 AND due_us IS NOT NULL
AND (?3 OR avoid IS NULL OR avoid <> ?2) ORDER BY due_us LIMIT 1
"""
TAKE = """
SELECT topic, ulid, offset, attempt + 1 FROM deliveries CROSS JOIN topics ON topics.id = topic
WHERE work = ?1 AND due_us <= ?3 AND (?4 OR avoid IS NULL OR avoid <> ?2)
ORDER BY due_us, topic, offset LIMIT ?5
"""
_HELD = (
    "WHERE work = ? AND topic = (SELECT id FROM topics WHERE ulid = ?) AND offset = ? AND lease = ?"
)
_WHICH = "RETURNING (SELECT ulid FROM topics WHERE id = topic), offset"
DONE = f"DELETE FROM deliveries {_HELD} {_WHICH}, lease, topic, key"  # noqa: S608
AGAIN = f"UPDATE deliveries SET lease = NULL, due_us = ?, avoid = ? {_HELD} {_WHICH}, ?"  # noqa: S608
LONGER = f"UPDATE deliveries SET due_us = ? {_HELD} {_WHICH}, lease"  # noqa: S608
NEVER_HELD = f"UPDATE deliveries SET lease = NULL, due_us = ?, attempt = attempt - 1 {_HELD}"  # noqa: S608

UNPARK = """
UPDATE deliveries SET due_us = ?4 WHERE work = ?1 AND topic = ?2 AND key = ?3 AND due_us IS NULL
AND offset = (SELECT min(offset) FROM deliveries WHERE work = ?1 AND topic = ?2 AND key = ?3)
"""
FLOOR = """
INSERT INTO offsets (name, topic, offset) SELECT name, topic, coalesce(
    (SELECT min(offset) FROM deliveries WHERE work = ?1 AND deliveries.topic = work_fronts.topic),
    front
) FROM work_fronts CROSS JOIN work_groups ON id = work WHERE work = ?1 AND topic = ?2
ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset
"""
STATE = """
SELECT count(*) FILTER (WHERE lease IS NOT NULL),
    count(*) FILTER (WHERE lease IS NULL AND due_us IS NOT NULL),
    count(*) FILTER (WHERE due_us IS NULL),
    (SELECT full FROM work_groups WHERE id = ?1),
    (SELECT count(*) FROM work_members WHERE work = ?1 AND seen_us >= ?2)
FROM deliveries WHERE work = ?1
"""


CLOCK = "SELECT clock_us FROM work_groups WHERE id = ?"


class DeliveryStore:
    """Implements `ensign_core.engine.Deliveries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, group: str, member: str, starts: Mapping[bytes, Offset]) -> int:
        with self._database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO work_groups (name, clock_us) VALUES (?, ?)",
                       (group, _now_us()))  # fmt: skip
            ((work,),) = db.execute("SELECT id FROM work_groups WHERE name = ?", (group,))
            db.executemany(
                "INSERT OR IGNORE INTO work_fronts SELECT ?, id, coalesce((SELECT offset FROM "
                "offsets WHERE offsets.name = ? AND topic = topics.id), ?) FROM topics "
                "WHERE ulid = ?",
                [(work, group, offset, topic_id) for topic_id, offset in starts.items()],
            )
            _beat(db, work, member, _clock(db, work))
            for topic in _numbers(db, starts).values():
                db.execute(FLOOR, (work, topic))
        return int(work)

    def fronts(self, group: int, topics: Sequence[str]) -> list[Front]:
        return [Front(*row) for row in self._database.rows(FRONTS, json.dumps(list(topics)), group)]

    def due_us(self, group: int, member: str) -> int | None:
        clock = _last_us(self._database.rows(CLOCK, group))
        now = _now_us()
        others = self._database.rows(OTHERS, group, member, now - MEMBER_SILENT_US_MAX)
        due = self._database.rows(DUE, group, member, not others)
        if due and now < clock:
            # The clock was set back: a claim finds out what is due.
            return 0
        return int(due[0][0]) - now if due else None

    def claim(
        self,
        group: int,
        member: str,
        scans: Sequence[Scan],
        count_max: int,
        unfinished_max: int,
        lease_us: int,
    ) -> Claims:
        lease = int.from_bytes(os.urandom(8), "big") >> 1
        with self._database.transaction() as db:
            now = _clock(db, group)
            others = list(db.execute(OTHERS, (group, member, now - MEMBER_SILENT_US_MAX)))
            _beat(db, group, member, now)
            taken = list(db.execute(TAKE, (group, member, now, not others, count_max)))
            db.executemany(
                "UPDATE deliveries SET lease = ?, due_us = ?, attempt = ?, avoid = NULL "
                "WHERE work = ? AND topic = ? AND offset = ?",
                [
                    (lease, now + lease_us, attempt, group, topic, offset)
                    for topic, _, offset, attempt in taken
                ],
            )
            again = [Claimed(Leased(key, at, lease), attempt) for _, key, at, attempt in taken]
            fresh, full = _Taking(db, group, lease, now + lease_us, count_max - len(again)).take(
                scans, unfinished_max
            )
            if scans:
                db.execute("UPDATE work_groups SET full = ?1 WHERE id = ?2 AND full <> ?1",
                           (full, group))  # fmt: skip
        return Claims(again, fresh, full)

    def beat(self, group: int, member: str) -> None:
        with self._database.transaction() as db:
            _beat(db, group, member, _clock(db, group))

    def ack(self, group: int, held: Sequence[Leased]) -> set[Leased]:
        with self._database.transaction() as db:
            done, noteworthy = _finish(db, group, held)
        if noteworthy:
            self._ring()
        return set(held) - done

    def nack(self, group: int, held: Mapping[Leased, int], avoid: str | None = None) -> set[Leased]:
        with self._database.transaction() as db:
            now = _clock(db, group)
            back = db.executemany(
                AGAIN,
                [(now + delay_us, avoid, group, *one, one.lease) for one, delay_us in held.items()],
            )
            done = {Leased(*row) for row in back}
        self._ring()
        return held.keys() - done

    def extend(self, group: int, held: Sequence[Leased], lease_us: int) -> set[Leased]:
        with self._database.transaction() as db:
            until = _clock(db, group) + lease_us
            back = db.executemany(
                LONGER,
                [(until, group, *one) for one in held],
            )
            done = {Leased(*row) for row in back}
        return set(held) - done

    def leave(self, group: int, member: str, held: Sequence[Leased]) -> None:
        with self._database.transaction() as db:
            if not list(db.execute(CLOCK, (group,))):
                return
            now = _clock(db, group)
            db.executemany(
                NEVER_HELD,
                [(now, group, *one) for one in held],
            )
            db.execute("DELETE FROM work_members WHERE work = ? AND member = ?", (group, member))
        self._ring()

    def state(self, group: int) -> WorkState:
        ((in_flight, waiting, parked, full, members),) = self._database.rows(
            STATE, group, _now_us() - MEMBER_SILENT_US_MAX
        )
        return WorkState(in_flight, waiting, parked, bool(full), members)

    def _ring(self) -> None:
        ring(self._database.path / "wake")


def finish(db: apsw.Connection, finished: Finished) -> None:
    """Be done with deliveries in the transaction of an append; ``delivery.expired`` if the lease of
    one was lost, or another member passed by events first."""
    done, _ = _finish(db, finished.group, finished.leased)
    missing = len(done) < len(set(finished.leased))
    for topic_id, (expected, front) in finished.passed.items():
        for topic in _numbers(db, [topic_id]).values():
            db.execute(
                "INSERT OR IGNORE INTO work_fronts VALUES (?, ?, 0)", (finished.group, topic)
            )
            db.execute(
                "UPDATE work_fronts SET front = ? WHERE work = ? AND topic = ? AND front = ?",
                (front, finished.group, topic, expected),
            )
            missing = missing or not db.changes()
            db.execute(FLOOR, (finished.group, topic))
    if missing:
        raise expired()


def expired() -> EnsignError:
    return EnsignError(
        "delivery.expired",
        "The event's lease had ended and it was delivered again, or it is done with already; "
        "nothing was changed.",
        "Give deliveries a longer lease_s, or extend() them while you work on them.",
    )


class _Taking:
    """Events that are looked at for the first time, in the transaction of a claim."""

    def __init__(
        self, db: apsw.Connection, work: int, lease: int, until_us: int, count_max: int
    ) -> None:
        self._db = db
        self._work = work
        self._lease = lease
        self._until_us = until_us
        self._left = count_max
        self._room = 0
        self._fresh: list[Claimed] = []

    def take(self, scans: Sequence[Scan], unfinished_max: int) -> tuple[list[Claimed], bool]:
        """The events that the member gets, and whether the group may have no more."""
        if not scans or not self._left:
            return [], False
        ((count,),) = self._db.execute(
            "SELECT count(*) FROM deliveries WHERE work = ?", (self._work,)
        )
        self._room = unfinished_max - count
        topics = _numbers(self._db, [scan.topic_id for scan in scans])
        for scan in scans:
            if not self._left or self._room <= 0:
                break
            if scan.topic_id in topics:
                self._take_of(scan, topics[scan.topic_id])
        for topic in topics.values():
            self._db.execute(FLOOR, (self._work, topic))
        return self._fresh, self._room <= 0

    def _take_of(self, scan: Scan, topic: int) -> None:
        fronts = list(
            self._db.execute("SELECT front FROM work_fronts WHERE work = ? AND topic = ?",
                             (self._work, topic))
        )  # fmt: skip
        front = fronts[0][0] if fronts else 0
        # What lies before `start` may be another member's, which looked at it first.
        if not scan.start <= front < scan.stop:
            return
        seen = self._unfinished_keys(scan, topic)
        rows: list[tuple[object, ...]] = []
        stop = scan.stop
        for offset, key in scan.events:
            if offset < front:
                continue
            if not self._left or self._room <= 0:
                stop = offset
                break
            self._room -= 1
            if key is not None and key in seen:
                rows.append((self._work, topic, offset, key, None, None, 0))
                continue
            if key is not None:
                seen.add(key)
            rows.append((self._work, topic, offset, key, self._until_us, self._lease, 1))
            self._left -= 1
            self._fresh.append(Claimed(Leased(scan.topic_id, offset, self._lease), 1))
        self._db.executemany(
            "INSERT INTO deliveries (work, topic, offset, key, due_us, lease, attempt) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._db.execute("INSERT OR REPLACE INTO work_fronts VALUES (?, ?, ?)",
                         (self._work, topic, stop))  # fmt: skip

    def _unfinished_keys(self, scan: Scan, topic: int) -> set[bytes]:
        keys = {key.hex() for _, key in scan.events if key is not None}
        if not keys:
            return set()
        return {
            row[0]
            for row in self._db.execute(
                "SELECT unhex(value) FROM json_each(?) WHERE EXISTS (SELECT 1 FROM deliveries "
                "WHERE work = ? AND topic = ? AND deliveries.key = unhex(value))",
                (json.dumps(list(keys)), self._work, topic),
            )
        }


def _finish(db: apsw.Connection, work: int, held: Iterable[Leased]) -> tuple[set[Leased], bool]:
    """Remove rows, let those of their keys that come next go, and raise the floors; which rows
    there were, and whether a member that waits has something to gain by it."""
    now = _clock(db, work)
    rows = list(
        db.executemany(
            DONE,
            [(work, *one) for one in held],
        )
    )
    before = db.total_changes()
    db.executemany(UNPARK, [(work, *row[3:], now) for row in rows if row[4] is not None])
    db.execute("UPDATE work_groups SET full = 0 WHERE id = ? AND full = 1 AND ?",
               (work, bool(rows)))  # fmt: skip
    noteworthy = db.total_changes() > before
    for topic in {row[3] for row in rows}:
        db.execute(FLOOR, (work, topic))
    return {Leased(*row[:3]) for row in rows}, noteworthy


def _numbers(db: apsw.Connection, topic_ids: Iterable[bytes]) -> dict[bytes, int]:
    """The topics that there are still."""
    return dict(
        db.execute(
            "SELECT ulid, topics.id FROM json_each(?) CROSS JOIN topics ON ulid = unhex(value)",
            (json.dumps([topic_id.hex() for topic_id in topic_ids]),),
        )
    )


def _beat(db: apsw.Connection, work: int, member: str, now: int) -> None:
    db.execute("INSERT OR REPLACE INTO work_members VALUES (?, ?, ?)", (work, member, now))


def _clock(db: apsw.Connection, work: int) -> int:
    """The time. A clock that was set back takes the group's times along."""
    now = _now_us()
    last = _last_us(list(db.execute(CLOCK, (work,))))
    if now < last:
        back = (last - now, work)
        db.execute("UPDATE deliveries SET due_us = due_us - ? WHERE work = ?", back)
        db.execute("UPDATE work_members SET seen_us = seen_us - ? WHERE work = ?", back)
    db.execute("UPDATE work_groups SET clock_us = ? WHERE id = ?", (now, work))
    return now


def _last_us(rows: Sequence[tuple[int]]) -> int:
    if not rows:
        raise EnsignError(
            "group.forgotten",
            "The group was forgotten while members shared its events.",
            "Join it again: it begins anew.",
        )
    return rows[0][0]


def _now_us() -> int:
    return time.time_ns() // 1000
