"""The tables of the embedded engine. Nothing of a row and no column's name is in a clear column.

``bodies`` are apart from ``frames``, so that looking frames up reads a few pages, and a held frame
becomes readable by one small row. ``frames.high_us`` is the running maximum of commit times in the
topic, so that a time is found by an index although commit times are not monotone. ``kept`` is what
sources keep beside ``pipelines.position``, in pieces. ``dropped`` are events of topics of dead
letters that are done with, by an operator's word or because they were replayed. ``replays`` are
those that were to be replayed and are not done with: whether that is asked for now, of which part
of the pipeline, and how often it failed, the last time for which error.
``topics.trimmed`` is the offset before which events were trimmed, ``frames.removed`` how many of a
frame's events compaction took out; ``compactions`` says how far a topic was compacted.
``pipeline_groups`` are the groups of a pipeline's sinks, whether they have begun or not.
``dedup`` has keyed hashes that tell the events of a topic with deduplication apart.
``deliveries`` are the events before a work group's front in a topic that are not done with. One is
parked behind an earlier one of its key (``due_us`` is null), waits until ``due_us``, or is held
until then (``lease`` is the number of the claim). ``key`` is a keyed hash. ``work_groups.clock_us``
is the last time by the clock that was seen, so that one set back is noticed.
``keys.kek`` is one row: the check of the KEK that wraps the data keys, empty where none does yet,
and how often a key was revoked, which tells holders of keys that they look again.

``producers`` are sessions that number what they publish, by a keyed hash of their name, and
``sequences`` their newest numbers, as runs with the offset of the first. Hashes in ``dedup`` lie
behind a mark of the policy that they are of; ``superseded`` are events that a later one took the
place of, ``topics.superseded`` how many ever were.

Grants lie with the keys, since a commit over both databases may reach one of them only when the
machine stops in its midst. A grant that was taken away stays as a row that is not ``granted``: its
topic does not become everybody's again. ``reader_keys`` are data keys of client-sealed topics, each
sealed for one reader.
"""

TABLES_VERSION = 4
"""Kept in SQLite's ``user_version``; a database of an earlier one is brought up to it."""

COLUMNS = {
    "topics": {
        "content_bytes": "INTEGER NOT NULL DEFAULT 0",
        "duplicates": "INTEGER NOT NULL DEFAULT 0",
        "policy": "BLOB",
        "superseded": "INTEGER NOT NULL DEFAULT 0",
        "trimmed": "INTEGER NOT NULL DEFAULT 0",
    },
    "frames": {
        "content_bytes": "INTEGER NOT NULL DEFAULT 0",
        "removed": "INTEGER NOT NULL DEFAULT 0",
    },
    "held": {"content_bytes": "INTEGER NOT NULL DEFAULT 0"},
    "data_keys": {"sealing": "TEXT NOT NULL DEFAULT 'server'"},
}
"""Columns that tables of an earlier version lack."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS topics (
    id INTEGER PRIMARY KEY,
    ulid BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'ready',
    events INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    content_bytes INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    policy BLOB,
    superseded INTEGER NOT NULL DEFAULT 0,
    trimmed INTEGER NOT NULL DEFAULT 0,
    next_offset INTEGER NOT NULL DEFAULT 0,
    high_us INTEGER NOT NULL DEFAULT -9223372036854775808
) STRICT;
CREATE TABLE IF NOT EXISTS bodies (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS frames (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL REFERENCES topics (id),
    base INTEGER NOT NULL,
    events INTEGER NOT NULL,
    high_us INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    body INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS frames_by_offset ON frames (topic, base, events);
CREATE INDEX IF NOT EXISTS frames_by_time ON frames (topic, high_us, base);
CREATE TABLE IF NOT EXISTS held (
    body INTEGER PRIMARY KEY,
    pipeline TEXT NOT NULL,
    topic INTEGER NOT NULL,
    events INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS dedup (
    topic INTEGER NOT NULL, hash BLOB NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (topic, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dedup_by_offset ON dedup (topic, offset);
CREATE TABLE IF NOT EXISTS schemas (id INTEGER PRIMARY KEY, box BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pipelines (
    name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, position BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS kept (
    pipeline TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (pipeline, name)
) STRICT;
CREATE TABLE IF NOT EXISTS pipeline_topics (
    pipeline TEXT NOT NULL, topic INTEGER NOT NULL, PRIMARY KEY (pipeline, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pipeline_groups (
    pipeline TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (pipeline, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (
    name TEXT NOT NULL, topic INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (name, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compactions (
    topic INTEGER PRIMARY KEY,
    clean_to INTEGER NOT NULL,
    tombstone INTEGER,
    passed_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS statuses (name TEXT PRIMARY KEY, status BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS signals (
    number INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, signal BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS dropped (
    topic INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (topic, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replays (
    topic INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    pipeline TEXT NOT NULL,
    part TEXT NOT NULL,
    asked INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error BLOB,
    PRIMARY KEY (topic, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replays_asked ON replays (topic, part, offset) WHERE asked = 1;
CREATE TABLE IF NOT EXISTS work_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    clock_us INTEGER NOT NULL,
    full INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS work_members (
    work INTEGER NOT NULL, member TEXT NOT NULL, seen_us INTEGER NOT NULL,
    PRIMARY KEY (work, member)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS work_fronts (
    work INTEGER NOT NULL, topic INTEGER NOT NULL, front INTEGER NOT NULL,
    PRIMARY KEY (work, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    work INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    key BLOB,
    due_us INTEGER,
    lease INTEGER,
    attempt INTEGER NOT NULL,
    avoid TEXT,
    PRIMARY KEY (work, topic, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (work, due_us) WHERE due_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_key ON deliveries (work, topic, key, offset)
    WHERE key IS NOT NULL;
CREATE TABLE IF NOT EXISTS producers (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    session BLOB NOT NULL,
    newest INTEGER NOT NULL DEFAULT -1,
    forgotten INTEGER NOT NULL DEFAULT -1,
    runs INTEGER NOT NULL DEFAULT 0,
    seen_us INTEGER NOT NULL,
    UNIQUE (topic, session)
) STRICT;
CREATE INDEX IF NOT EXISTS producers_seen ON producers (topic, seen_us);
CREATE TABLE IF NOT EXISTS sequences (
    producer INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (producer, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dedup (
    topic INTEGER NOT NULL, hash BLOB NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (topic, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dedup_by_offset ON dedup (topic, offset);
CREATE TABLE IF NOT EXISTS superseded (
    topic INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (topic, offset)
) STRICT, WITHOUT ROWID;
"""

KEYS = """
CREATE TABLE IF NOT EXISTS keys.data_keys (
    id BLOB PRIMARY KEY,
    topic BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL,
    sealing TEXT NOT NULL DEFAULT 'server'
) STRICT;
CREATE INDEX IF NOT EXISTS keys.by_topic ON data_keys (topic);
CREATE TABLE IF NOT EXISTS keys.kek (
    one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL, revocations INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO keys.kek VALUES (1, x'', 0);
CREATE TABLE IF NOT EXISTS keys.readers (name TEXT PRIMARY KEY, public_key TEXT UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS keys.grants (
    topic BLOB NOT NULL,
    reader TEXT NOT NULL REFERENCES readers (name),
    created INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    PRIMARY KEY (topic, reader)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys.reader_keys (
    key_id BLOB NOT NULL REFERENCES data_keys (id) ON DELETE CASCADE,
    reader TEXT NOT NULL REFERENCES readers (name),
    wrapped BLOB NOT NULL,
    PRIMARY KEY (key_id, reader)
) STRICT, WITHOUT ROWID;
"""

INDEXES = """
DROP INDEX IF EXISTS keys.one_active;
CREATE UNIQUE INDEX IF NOT EXISTS keys.one_active_of_server ON data_keys (topic)
    WHERE state = 'active' AND sealing = 'server';
"""
"""What takes columns that an earlier version lacked. Of a client-sealed topic each process that
writes has an active key of its own, since none can unwrap another's."""
