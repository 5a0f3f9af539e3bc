"""Tables that tools alter by copying them: the topic has what the table has afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ensign_core.change import Op
from tests.integration.conftest import Shop
from tests.services.mysql_capture import Capture, state

ROWS = 30


def triggers(new: str) -> list[str]:
    """Those of pt-online-schema-change: whatever is done to `t` is done to its copy."""
    insert = f"REPLACE INTO {new} (id, v, w) VALUES (NEW.id, NEW.v, NEW.w)"
    delete = f"DELETE IGNORE FROM {new} WHERE id <=> OLD.id"
    update = f"BEGIN {delete} AND NOT OLD.id <=> NEW.id; {insert}; END"
    return [
        f"CREATE TRIGGER pt_del AFTER DELETE ON t FOR EACH ROW {delete}",
        f"CREATE TRIGGER pt_upd AFTER UPDATE ON t FOR EACH ROW {update}",
        f"CREATE TRIGGER pt_ins AFTER INSERT ON t FOR EACH ROW {insert}",
    ]


def pt_online_schema_change(name: str) -> Iterator[str]:
    """The statements of ``pt-online-schema-change --alter "ADD a INT DEFAULT 7 AFTER id"``."""
    yield (
        f"CREATE TABLE `{name}`.`_t_new` (`id` int NOT NULL, `v` int DEFAULT NULL, "
        "`w` int DEFAULT NULL, PRIMARY KEY (`id`))"
    )
    yield f"ALTER TABLE `{name}`.`_t_new` ADD a INT DEFAULT 7 AFTER id"
    yield from triggers("_t_new")
    for low in range(0, ROWS, 10):
        yield (
            "INSERT LOW_PRIORITY IGNORE INTO `_t_new` (id, v, w) SELECT id, v, w FROM `t` "
            f"FORCE INDEX(`PRIMARY`) WHERE id >= {low} AND id < {low + 10} LOCK IN SHARE MODE "
            "/*pt-online-schema-change 1 copy nibble*/"
        )
    yield f"RENAME TABLE `{name}`.`t` TO `{name}`.`_t_old`, `{name}`.`_t_new` TO `{name}`.`t`"
    yield "DROP TABLE IF EXISTS `_t_old`"
    for trigger in ("del", "upd", "ins"):
        yield f"DROP TRIGGER IF EXISTS `{name}`.`pt_{trigger}`"


def gh_ost(name: str) -> Iterator[str]:
    """The statements of ``gh-ost --alter "ADD a INT DEFAULT 7 AFTER id"``, which applies changes of
    `t` to its copy itself; ``-- changes`` stands for that."""
    yield f"drop /* gh-ost */ table if exists `{name}`.`_t_ghc`"
    yield (
        f"create /* gh-ost */ table `{name}`.`_t_ghc` (id bigint unsigned auto_increment, "
        "last_update timestamp not null DEFAULT CURRENT_TIMESTAMP, hint varchar(64) charset ascii "
        "not null, value varchar(4096) charset ascii not null, primary key(id), "
        "unique key hint_uidx(hint)) auto_increment=256 comment='x'"
    )
    yield f"create /* gh-ost */ table `{name}`.`_t_gho` like `{name}`.`t`"
    yield f"alter /* gh-ost */ table `{name}`.`_t_gho` ADD a INT DEFAULT 7 AFTER id"
    for low in range(0, ROWS, 10):
        yield (
            f"insert /* gh-ost `{name}`.`t` */ ignore into `{name}`.`_t_gho` (`id`, `v`, `w`) "
            f"(select `id`, `v`, `w` from `{name}`.`t` force index (`PRIMARY`) where `id` >= {low} "
            f"and `id` < {low + 10} lock in share mode)"
        )
        yield "-- changes"
    yield f"create /* gh-ost */ table `{name}`.`_t_del` (id int) comment='ghost-cut-over-sentry'"
    yield f"drop /* gh-ost */ table if exists `{name}`.`_t_del`"
    yield (
        f"rename /* gh-ost */ table `{name}`.`t` to `{name}`.`_t_del`, `{name}`.`_t_gho` to "
        f"`{name}`.`t`"
    )
    yield f"drop /* gh-ost */ table if exists `{name}`.`_t_ghc`"
    yield f"drop /* gh-ost */ table if exists `{name}`.`_t_del`"


TOOLS = {"pt": pt_online_schema_change, "gh-ost": gh_ost}
SYNC = [
    "REPLACE INTO _t_gho (id, v, w) SELECT id, v, w FROM t",
    "DELETE FROM _t_gho WHERE id NOT IN (SELECT id FROM t)",
]


def changes(step: int) -> list[str]:
    """What an application does meanwhile."""
    return [
        f"INSERT INTO t (id, v, w) VALUES ({100 + step}, {step}, {-step})",
        f"UPDATE t SET v = v + 1000 WHERE id % 7 = {step % 7}",
        f"DELETE FROM t WHERE id = {step}",
        f"UPDATE t SET id = id + 1000 WHERE id = {99 + step}",
    ]


def run_tool(shop: Shop, tool: str) -> None:
    """All statements of a tool, with changes of rows between them. The last changes that gh-ost
    applies to its table are applied while `t` is locked."""
    with shop.server.connect(shop.name) as connection, connection.cursor() as cursor:
        steps = list(TOOLS[tool](shop.name))
        for step, statement in enumerate(steps):
            locked = tool == "gh-ost" and step >= len(steps) - 3
            for each in [] if locked else changes(step):
                cursor.execute(each)
            if tool == "gh-ost" and step == len(steps) - 4:
                for each in SYNC:
                    cursor.execute(each)
            for each in SYNC if statement == "-- changes" else [statement]:
                cursor.execute(each)
        for each in changes(len(steps)):
            cursor.execute(each)


def prepared(shop: Shop) -> None:
    shop.run(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT, w INT)",
        "INSERT INTO t VALUES " + ", ".join(f"({i}, {i}, {-i})" for i in range(ROWS)),
        "CREATE TABLE u (id INT PRIMARY KEY)",
    )


def assert_equal(shop: Shop, one: Capture) -> None:
    """What the events of `t` make is what it has now, under its names."""
    wanted = {
        (str(i),): {"id": str(i), "a": str(a), "v": str(v), "w": str(w)}
        for i, a, v, w in shop.run("SELECT id, a, v, w FROM t")
    }
    assert state(one.of(f"{shop.name}.t")) == wanted


@pytest.mark.parametrize(
    ("tool", "globs", "metadata"),
    [
        ("pt", "t", "FULL"),
        ("pt", "*", "NO_LOG"),
        ("gh-ost", "t", "NO_LOG"),
        ("gh-ost", "*", "FULL"),
    ],
    indirect=["metadata"],
)
def test_swap_while_rows_change(
    shop: Shop, follow: Callable[..., Capture], metadata: str, tool: str, globs: str
) -> None:
    """Also when the tool's tables are captured."""
    prepared(shop)
    one = follow(tables=[f"{shop.name}.{globs}", f"{shop.name}.u"])
    one.caught_up()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_tool, shop, tool)
        one.until(running.done)
        running.result()
    for _ in range(2):
        one.caught_up()
    assert_equal(shop, one)
    assert Op.TRUNCATE not in {e.op for e in one.of(f"{shop.name}.t")}
    assert not one.told.facts.get("warnings")


@pytest.mark.parametrize("metadata", ["NO_LOG"], indirect=True)
@pytest.mark.parametrize("when", ["down", "read"])
@pytest.mark.parametrize("tool", TOOLS)
def test_swaps_in_between(
    shop: Shop, follow: Callable[..., Capture], metadata: str, tool: str, when: str
) -> None:
    """Two of them, while the source is down, or while the table is read the first time."""
    prepared(shop)
    one = follow(tables=[f"{shop.name}.t"], chunk_rows=8)
    if when == "read":
        one.until(lambda: len(one.seen) >= 8)
    else:
        one.caught_up()
    one.close()
    run_tool(shop, tool)
    shop.run("ALTER TABLE t RENAME COLUMN v TO w, RENAME COLUMN w TO v", "UPDATE t SET v = w")
    for _ in range(3):
        one.caught_up(reopen_each=5)
    assert_equal(shop, one)
    assert not one.told.facts.get("warnings")
