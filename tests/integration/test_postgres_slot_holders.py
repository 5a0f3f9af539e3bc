"""A slot that somebody else reads is waited for, naming who: never stolen, and what is left over of
this pipeline is terminated on request only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from connectors.postgres.session import Session
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres_capture import Capture, captures
from tests.services.proxy import FaultProxy
from tests.services.ready import wait_until

PATIENCE_S = 60.0


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["public.t"])


def free(database: Database, slot: str) -> None:
    """Wait until nobody holds the slot."""
    asked = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
    wait_until(lambda: database.run(asked) != [(True,)], PATIENCE_S)


def test_who_holds_the_slot_is_named(database: Database, capture: Callable[..., Capture]) -> None:
    slot = f"slot_{database.name}"
    one = capture()
    one.caught_up()
    pid = database.value(f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'")
    source = CONNECTOR.make(one.config, one.told)
    with pytest.raises(EnsignError) as caught:
        source.open(one.position)
    source.close()
    error = caught.value
    assert error.code == "postgres.slot_in_use"
    start = f"Replication slot {slot} is in use by process {pid} (ensign test, user postgres, from "
    assert error.sentence.startswith(f"{start}127.0.0.1, since 20")
    found = next(f for f in CONNECTOR.check(one.config, "test") if f.code == error.code)
    assert (found.level, str(pid) in found.sentence) == ("warning", True)


@pytest.mark.every_version
def test_stale_walsender_is_terminated_only_on_request(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    one.caught_up()
    left = one.source
    one.source = None
    config = one.config.model_copy(update={"stale_walsender": "terminate"})
    other = CONNECTOR.make(config, one.told)
    other.open(one.position)
    other.close()
    assert left is not None
    with pytest.raises(EnsignError, match=r"postgres\.(restarting|connection_lost)"):
        left.read(PATIENCE_S)
    left.close()


def test_walsender_of_a_worker_that_the_network_lost(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """Its worker is still there, and silent: without the option its slot is waited for."""
    one = capture()
    with FaultProxy("127.0.0.1", database.server.port) as proxy:
        direct = one.config.dsn
        through = database.dsn.replace(f":{database.server.port}/", f":{proxy.port}/")
        one.config = one.config.model_copy(update={"dsn": type(direct)(through)})
        one.caught_up()
        proxy.black_hole()
        left, one.source = one.source, None
        one.config = one.config.model_copy(update={"dsn": direct})
        waiting = CONNECTOR.make(one.config, one.told)
        with pytest.raises(EnsignError, match=r"postgres\.slot_in_use.*stale_walsender"):
            waiting.open(one.position)
        waiting.close()
        one.config = one.config.model_copy(update={"stale_walsender": "terminate"})
        one.open()
        database.run("INSERT INTO t VALUES (1)")
        one.until(lambda: len(one.seen) == 1)
        assert left is not None
        left.close()


@pytest.mark.parametrize("strange", ["application", "user"])
def test_other_readers_of_the_slot_are_never_terminated(
    database: Database, capture: Callable[..., Capture], strange: str
) -> None:
    slot = f"slot_{database.name}"
    one = capture(stale_walsender="terminate")
    one.caught_up()
    one.close()
    free(database, slot)
    dsn, pipeline = database.dsn, "test"
    if strange == "user":
        database.run("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN SUPERUSER")
        dsn = database.server.dsn(database.name, "reader", "any")
    else:
        pipeline = "other"
    config = PostgresConfig(type="postgres", dsn=dsn)
    holder = Session(config, pipeline, replication=True)
    holder.simple(
        f"START_REPLICATION SLOT {slot} LOGICAL 0/0 "
        "(proto_version '1', publication_names 'ensign_test')", doing="testing",
    )  # fmt: skip
    with pytest.raises(EnsignError, match=r"postgres\.slot_in_use"):
        CONNECTOR.make(one.config, one.told).open(one.position)
    asked = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
    assert database.value(asked) is True
    holder.close()
    free(database, slot)
