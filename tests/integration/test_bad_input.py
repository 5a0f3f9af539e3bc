"""What an operator sees when something is wrong: a code, a sentence, a remedy, the right exit code;
never a traceback, a secret or a row's value."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.services.postgres import PostgresServer, installations

SECRET = "s3cr3t-password"
VALUE = "a-customers-private-note"
ROOT = Path(__file__).parents[2]
ERROR = re.compile(r"^[a-z0-9_]+(\.[a-z0-9_]+)+: .+\n  .+", re.MULTILINE)
CONFIG = """\
broker: {{path: {folder}/broker}}
pipelines:
  shop:
    source: {{type: postgres, dsn: "{dsn}", tables: [{table}]{more}}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    programs = list(installations().values())[-1]
    with PostgresServer(programs, auth="scram-sha-256") as running, running.connect() as db:
        db.execute(f"CREATE ROLE cdc LOGIN REPLICATION PASSWORD '{SECRET}'".encode())
        db.execute(f"CREATE ROLE reader LOGIN PASSWORD '{SECRET}'".encode())
        yield running


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[str]:
    """A database whose table belongs to cdc."""
    name = server.new_database()
    with server.connect(name) as db:
        db.execute(f"GRANT CREATE ON DATABASE {name} TO cdc".encode())
        db.execute("CREATE TABLE notes (id int PRIMARY KEY, note text)")
        db.execute("ALTER TABLE notes OWNER TO cdc")
        db.execute("INSERT INTO notes SELECT i, %s FROM generate_series(1, 10) AS i", (VALUE,))
    yield name
    server.drop_database(name)


def ensign(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; whatever it prints must be fit for people."""
    done = subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", *arguments],
        cwd=folder, text=True, capture_output=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    for unfit in ("Traceback", SECRET, VALUE):
        assert unfit not in done.stderr
        assert unfit not in done.stdout or arguments[0] == "read"
    return done


def config(
    folder: Path, server: PostgresServer, database: str, *, user: str = "cdc",
    password: str = SECRET, table: str = "public.notes", more: str = "",
) -> Path:  # fmt: skip
    path = folder / "ensign.yaml"
    dsn = server.dsn(database, user, password)
    path.write_text(CONFIG.format(folder=folder, dsn=dsn, table=table, more=more))
    return path


def caught_up(path: Path) -> subprocess.CompletedProcess[str]:
    return ensign(path.parent, "run", str(path), "--until-caught-up", "--wait-s", "0")


def refused(done: subprocess.CompletedProcess[str], code: str, exit_code: int = 1) -> None:
    assert f"{code}: " in done.stderr, done.stderr
    assert ERROR.search(done.stderr), done.stderr
    assert done.returncode == exit_code


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ({"password": "wrong-" + SECRET[::-1]}, "postgres.password_rejected"),
        ({"user": "nobody"}, "postgres.password_rejected"),
        ({"user": "reader"}, "postgres.replication_privilege"),
        ({"table": "public.orders"}, "postgres.table_missing"),
    ],
)
def test_a_server_that_refuses(
    server: PostgresServer, shop: str, tmp_path: Path, option: dict[str, str], code: str
) -> None:
    path = config(tmp_path, server, shop, **option)
    refused(caught_up(path), code)
    found = ensign(tmp_path, "check", str(path), "--json")
    assert code in {finding["code"] for finding in json.loads(found.stdout)}
    assert found.returncode == 1


def test_a_database_that_is_not_there(server: PostgresServer, tmp_path: Path) -> None:
    refused(caught_up(config(tmp_path, server, "missing")), "postgres.database_missing")


def test_a_server_that_is_not_there(server: PostgresServer, tmp_path: Path) -> None:
    path = config(tmp_path, server, "shop")
    path.write_text(path.read_text().replace(f":{server.port}/", ":1/"))
    refused(caught_up(path), "postgres.unreachable")
    status = json.loads(ensign(tmp_path, "status", str(path), "--json").stdout)[0]
    assert (status["state"], status["error"]["code"]) == ("failed", "postgres.unreachable")


def test_a_server_without_logical_decoding(tmp_path: Path) -> None:
    programs = list(installations().values())[-1]
    with PostgresServer(programs, settings={"wal_level": "replica"}) as server:
        with server.connect() as db:
            db.execute("CREATE TABLE notes (id int PRIMARY KEY)")
        path = config(tmp_path, server, "postgres", user="postgres", password="postgres")
        refused(caught_up(path), "postgres.wal_level")


def test_a_slot_that_is_gone_is_not_made_again(
    server: PostgresServer, shop: str, tmp_path: Path
) -> None:
    path = config(tmp_path, server, shop)
    assert caught_up(path).returncode == 0
    with server.connect(shop) as db:
        db.execute("SELECT pg_drop_replication_slot('ensign_shop')")
        refused(caught_up(path), "postgres.slot_missing")
        assert not db.execute("SELECT 1 FROM pg_replication_slots").fetchall()
        db.execute("INSERT INTO notes VALUES (11, 'missed')")
        db.execute("SELECT pg_create_logical_replication_slot('ensign_shop', 'pgoutput')")
    refused(caught_up(path), "postgres.slot_recreated")


def test_another_server_behind_the_same_dsn(
    server: PostgresServer, shop: str, tmp_path: Path
) -> None:
    path = config(tmp_path, server, shop)
    assert caught_up(path).returncode == 0
    with PostgresServer(server.programs) as other, other.connect() as db:
        db.execute(f"CREATE DATABASE {shop}".encode())
        with other.connect(shop) as inside:
            inside.execute("CREATE TABLE notes (id int PRIMARY KEY, note text)")
        path.write_text(path.read_text().replace(str(server.port), str(other.port)))
        path.write_text(path.read_text().replace(f"cdc:{SECRET}", "postgres"))
        refused(caught_up(path), "postgres.system_changed")


def test_keys_that_are_missing_or_wrong(server: PostgresServer, shop: str, tmp_path: Path) -> None:
    path = config(tmp_path, server, shop)
    assert caught_up(path).returncode == 0
    keys, kept = tmp_path / "broker.keys", tmp_path / "kept"
    keys.rename(kept)
    refused(caught_up(path), "key.missing")
    assert not keys.exists()
    other = ensign(tmp_path, "topics", "create", "x", "--path", "other")
    assert other.returncode == 0
    (tmp_path / "other.keys").rename(keys)
    refused(caught_up(path), "key.wrong")
    keys.unlink()
    kept.rename(keys)
    keys.chmod(0o644)
    refused(caught_up(path), "key.file_exposed")
    keys.chmod(0o600)
    assert caught_up(path).returncode == 0


def test_a_damaged_frame_names_its_offsets(
    server: PostgresServer, shop: str, tmp_path: Path
) -> None:
    path = config(tmp_path, server, shop)
    assert caught_up(path).returncode == 0
    db = apsw.Connection(str(tmp_path / "broker" / "ensign.db"))
    ((data,),) = db.execute("SELECT data FROM bodies")
    flipped = bytearray(data)
    flipped[-5] ^= 1
    db.execute("UPDATE bodies SET data = ?", (bytes(flipped),))
    db.close()
    done = ensign(tmp_path, "read", f"{shop}.public.notes", "--config", str(path))
    refused(done, "frame.tampered")
    assert "offsets 0 to 9" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pipelines: {a: {source: {type: generator, pace: 1}}}", "config.unknown_key"),
        ("pipelines: {a: {source: {type: generator, rate: fast}}}", "config.wrong_type"),
        ("pipelines: {a: {source: {type: file, path: '${NOT_SET}'}}}", "config.variable_missing"),
        ("pipelines:\n  a: {}\n  a: {}\n", "config.duplicate_key"),
        ("pipelines: {a: {source: {type: oracle}}}", "config.unknown_connector"),
        ("", "config.no_pipeline"),
    ],
)
def test_a_config_that_is_wrong(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "ensign.yaml"
    path.write_text(text)
    refused(ensign(tmp_path, "run", str(path)), code, exit_code=2)
