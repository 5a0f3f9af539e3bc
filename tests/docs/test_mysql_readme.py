"""What the README of the MySQL source tells a DBA holds: its grants, its codes, its files."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from connectors.mysql import CONNECTOR, MysqlConfig
from connectors.mysql.continuing import MENDED
from connectors.mysql.errors import ERRORS, error
from ensign_core.run.retry import waits
from tests.services.mysql import MysqlServer

FOLDER = Path(__file__).parents[2] / "connectors" / "mysql"
SHOP = FOLDER.parents[1] / "docker" / "shop_mysql.sql"
README = (FOLDER / "README.md").read_text()
CODES = README.partition("## When it waits")[2].partition("## The code")[0]


def named(row: str) -> set[str]:
    """The codes in the row of the table that begins so."""
    found = re.search(rf"^\| {re.escape(row)}[^|]*\|([^|]*)\|", CODES, re.MULTILINE)
    assert found is not None, row
    return set(re.findall(r"`([\w.]+)`", found[1]))


def test_every_code_is_named() -> None:
    assert ERRORS.keys() - set(re.findall(r"`([\w.]+)`", CODES)) == set()


def test_what_is_waited_out_and_what_a_comparison_mends() -> None:
    assert named("waited out") == {word for word in ERRORS if waits(error(word))}
    assert {f"mysql.{word}" for word in named("stops: a gap")} == MENDED


def test_every_file_is_named() -> None:
    files = {path.name for pattern in ("*.py", "*.pyx") for path in FOLDER.glob(pattern)}
    listed = set(re.findall(r"`([\w]+\.pyx?)`", README.partition("## The code")[2]))
    assert files - {"__init__.py"} == listed


def test_the_grants_are_all_that_a_source_needs(mysql: MysqlServer) -> None:
    (block,) = re.findall(r"^```sql\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (example,) = re.findall(r"^    source:\n(?:^      .*\n)+", README, re.MULTILINE)
    options = yaml.safe_load(example)["source"]
    options |= {"password": "choose-one", "port": mysql.port}
    mysql.run(
        "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
        "CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE = MyISAM", "DROP USER 'cdc'@'%'",
    )  # fmt: skip
    try:
        mysql.run(*filter(str.strip, re.sub("^--.*", "", block, flags=re.MULTILINE).split(";")))
        found = CONNECTOR.check(MysqlConfig.model_validate(options), "shop")
        assert [f.code for f in found if f.level != "pass"] == ["mysql.engine"]
    finally:
        mysql.drop_database("shop")
        mysql.new_user("cdc", "cdc")


def test_the_shop_of_docker_can_be_captured(mysql: MysqlServer) -> None:
    mysql.run("CREATE DATABASE shop", "CREATE USER 'ensign'@'%' IDENTIFIED BY 'ensign'")
    try:
        text = re.sub("^--.*", "", SHOP.read_text(), flags=re.MULTILINE)
        mysql.run(*filter(str.strip, text.split(";")))
        config = MysqlConfig(
            type="mysql", host=mysql.host, port=mysql.port, user="ensign", password="ensign",
            databases=["shop"],
        )  # fmt: skip
        assert all(f.level == "pass" for f in CONNECTOR.check(config, "shop"))
    finally:
        mysql.run("DROP USER 'ensign'@'%'")
        mysql.drop_database("shop")


def test_links_lead_somewhere() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (FOLDER / path).exists(), path
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.*)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= anchors
