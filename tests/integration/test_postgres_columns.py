"""Columns of the PostgreSQL source: captured in part, and rows that cannot be processed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.postgres import catalog
from connectors.postgres.relations import excluded_key
from connectors.postgres.session import Session
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT
from tests.conftest import Database
from tests.services.postgres_capture import Capture, fold


@pytest.mark.parametrize(
    "columns", [{"exclude": ["*.t.secret*"]}, {"include": ["public.t.id", "*.note", "*.b"]}]
)
@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_columns_are_left_out_everywhere(
    database: Database, capture: Callable[..., Capture], columns: Any, identity: str
) -> None:
    database.run(
        "CREATE TABLE t (secret_a text, id int PRIMARY KEY, note text, secret_b text, b bool)",
        "ALTER TABLE t ALTER note SET STORAGE EXTERNAL, ALTER secret_b SET STORAGE EXTERNAL",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
        "INSERT INTO t SELECT 's', g, 'n' || g, 's', true FROM generate_series(1, 6) g",
    )
    one = capture(columns=columns, chunk_rows=2, batch_bytes_max=1)
    one.until(lambda: len(one.seen) >= 2)
    database.run("UPDATE t SET secret_a = 'x', note = 'new' WHERE id IN (1, 5)")
    one.caught_up(reopen_each=1)
    start = len(one.seen)
    database.run(
        "INSERT INTO t VALUES ('s', 7, repeat('n', 5000), repeat('s', 5000), NULL)",
        "UPDATE t SET secret_a = 'y', b = false WHERE id = 7",
        "UPDATE t SET id = 8 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
    )
    later = one.caught_up()
    assert {tuple(c.name for c in e.schema.columns) for e in one.seen} == {("id", "note", "b")}
    assert len({e.schema.id for e in one.seen}) == 1
    assert later[0].new == {"id": "7", "note": "n" * 5000, "b": None}
    unchanged = ABSENT if identity == "DEFAULT" else "n" * 5000
    assert later[1].new is not None
    assert later[1].new["note"] in (unchanged, ABSENT)
    assert [e.op for e in one.seen[start:]] == [Op.INSERT, Op.UPDATE, Op.UPDATE, Op.DELETE]
    table = {str(k): v for k, v in database.run("SELECT id, note FROM t")}
    assert {row["id"]: row["note"] for row in fold(one.seen).values()} == table


def test_key_cannot_be_left_out(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    one = capture(columns={"exclude": ["*.id"]})
    with pytest.raises(EnsignError, match=r"column_key_excluded.*public\.t\.id"):
        one.caught_up()
    one.close()
    session = Session(one.config, "test")
    try:
        oid = int(str(database.value("SELECT 't'::regclass::oid")))
        found = catalog.describe(session, oid)
        assert found is not None
        assert excluded_key(one.config, found) == "public.t.id"
        assert excluded_key(capture().config, found) is None
    finally:
        session.close()
    never = capture(columns={"include": ["*.v"]}, snapshot="never", slot=f"n_{database.name}")
    never.caught_up()
    database.run("UPDATE t SET v = 2")
    with pytest.raises(EnsignError, match=r"column_key_excluded.*public\.t\.id"):
        never.caught_up()


def test_left_out_column_changes_the_structure_only_when_it_is_seen(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, secret text)")
    one = capture(columns={"exclude": ["*.secret*"]})
    one.caught_up()
    database.run(
        "INSERT INTO t VALUES (1, 's')",
        "ALTER TABLE t ADD secret_b int",
        "INSERT INTO t VALUES (2, 's', 1)",
        "ALTER TABLE t ADD open int",
        "INSERT INTO t VALUES (3, 's', 1, 5)",
    )
    seen = one.caught_up()
    assert [(e.op, e.new) for e in seen] == [
        (Op.INSERT, {"id": "1"}),
        (Op.INSERT, {"id": "2"}),
        (Op.SCHEMA, None),
        (Op.INSERT, {"id": "3", "open": "5"}),
    ]
