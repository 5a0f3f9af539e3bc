"""Tables that tools alter by copying them: the topic has what the table has afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ensign_core.change import Op
from tests.integration.conftest import Shop
from tests.services.mysql_capture import Capture, state

every_metadata = pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"], indirect=True)
ROWS = 30


def triggers(new: str) -> list[str]:
    """Those of pt-online-schema-change: whatever is done to `t` is done to its copy."""
    insert = f"REPLACE INTO {new} (id, v, w) VALUES (NEW.id, NEW.v, NEW.w)"
    delete = f"DELETE IGNORE FROM {new} WHERE id <=> OLD.id"
    return [
        f"CREATE TRIGGER pt_del AFTER DELETE ON t FOR EACH ROW {delete}",
        f"CREATE TRIGGER pt_upd AFTER UPDATE ON t FOR EACH ROW BEGIN {delete} AND NOT OLD.id <=> "
        f"NEW.id; {insert}; END",
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


class Application:
    """Changes rows of `t` between the statements of a tool."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._step = 0

    def run(self) -> None:
        self._step += 1
        n = self._step
        self._shop.run(
            f"INSERT INTO t (id, v, w) VALUES ({100 + n}, {n}, {-n})",
            f"UPDATE t SET v = v + 1000 WHERE id % 7 = {n % 7}",
            f"DELETE FROM t WHERE id = {n}",
            f"UPDATE t SET id = id + 1000 WHERE id = {99 + n}",
        )


def run_tool(shop: Shop, tool: str, meanwhile: Callable[[], None]) -> None:
    """All statements of a tool, with changes of rows before and behind each."""
    application = Application(shop)
    for statement in TOOLS[tool](shop.name):
        application.run()
        shop.run(*(SYNC if statement == "-- changes" else [statement]))
        if "/* gh-ost */ table `" in statement and statement.startswith("create"):
            continue
        if tool == "gh-ost" and statement.startswith("drop") and "_t_del" in statement:
            # The last changes are applied while the table is locked.
            application.run()
            if "_t_gho" in {name for (name,) in shop.run("SHOW TABLES")}:
                shop.run(*SYNC)
                shop.run(*list(gh_ost(shop.name))[-3:])
                break
        meanwhile()
    application.run()


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


@every_metadata
@pytest.mark.parametrize("globs", ["t", "*"])
@pytest.mark.parametrize("tool", TOOLS)
def test_swap_while_rows_change(
    shop: Shop, follow: Callable[..., Capture], metadata: str, tool: str, globs: str
) -> None:
    """Also when the tool's tables are captured."""
    prepared(shop)
    one = follow(tables=[f"{shop.name}.{globs}", f"{shop.name}.u"])
    one.caught_up()
    run_tool(shop, tool, meanwhile=lambda: bool(one.step(0)))
    for _ in range(2):
        one.caught_up()
    assert_equal(shop, one)
    assert Op.TRUNCATE not in {e.op for e in one.of(f"{shop.name}.t")}
    assert not one.told.facts.get("warnings")


@every_metadata
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
    run_tool(shop, tool, meanwhile=lambda: None)
    shop.run("ALTER TABLE t RENAME COLUMN v TO w, RENAME COLUMN w TO v", "UPDATE t SET v = w")
    for _ in range(3):
        one.caught_up(reopen_each=5)
    assert_equal(shop, one)
    assert not one.told.facts.get("warnings")
