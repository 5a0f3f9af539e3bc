"""Transforms between PostgreSQL and files: an outbox, what is hidden, what is taken out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {path: ./broker}
pipelines:
  shop:
    source: {type: postgres, dsn: "%s", tables: ["public.*"], slot: %s}
    transforms:
      - {type: outbox}
      - {type: hash, columns: [card], key: "a key of enough characters", tables: [public.orders]}
    sinks:
      files:
        type: file
        path: "./{topic}.jsonl"
        transforms:
          - {type: filter, where: "amount >= 10", tables: [public.orders]}
          - {type: route, topic: "orders.{column:status}", tables: [public.orders]}
"""


def run_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", "run", "shop.yaml", "--until-caught-up"],
        text=True, capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_from_postgres_to_files(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("shop.yaml").write_text(CONFIG % (database.dsn, f"slot_{database.name}"))
    database.run(
        "CREATE TABLE orders (id int PRIMARY KEY, status text, amount numeric, card text)",
        "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text,"
        " payload jsonb)",
        "INSERT INTO orders VALUES (1, 'new', 9.99, '4111'), (2, 'new', 10.00, '4111')",
    )
    run_once()
    with database.connection.transaction():
        database.run(
            "INSERT INTO orders VALUES (3, 'paid', 100, NULL), (4, 'paid', 5, '4222')",
            """INSERT INTO outbox VALUES (1, 'order', '3', 'paid', '{"order": 3}')""",
            "DELETE FROM outbox",
            "UPDATE orders SET status = 'paid' WHERE id = 2",
        )
    run_once()
    (first,) = lines(tmp_path, "orders.new")
    assert (first["op"], first["after"]["id"], first["offset"]) == ("snapshot", 2, 1)
    assert len(first["after"]["card"]) == 64
    paid = lines(tmp_path, "orders.paid")
    assert [(line["after"]["id"], line["offset"]) for line in paid] == [(3, 2), (2, 4)]
    assert [line["tx"]["ordinal"] for line in paid] == [0, 4]
    assert paid[0]["after"]["card"] is None
    assert paid[1]["after"]["card"] == first["after"]["card"]
    (event,) = lines(tmp_path, "outbox.event.order")
    assert (event["op"], event["key"], event["after"]["data"]) == ("event", "3", {"order": 3})
    assert (event["after"]["type"], event["after"]["metadata"]) == ("paid", {"id": "1"})
    assert event["tx"]["id"] == paid[0]["tx"]["id"]
