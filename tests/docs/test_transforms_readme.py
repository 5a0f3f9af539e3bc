"""What ``ensign_core/transforms/README.md`` shows, works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from ensign_core.change import Batch, Op
from ensign_core.config.variables import expand
from tests.transforms import (
    ORDERS,
    Letters,
    batch_of,
    changed,
    delete,
    insert,
    order,
    table,
    values,
)

README = (Path(__file__).parents[2] / "ensign_core" / "transforms" / "README.md").read_text()
WIDE = table(
    "orders", ("id", "int"), "status", ("amount", "decimal"), "card", "email", "internal_a"
)
OUTBOX = table("outbox", "id", "aggregatetype", "aggregateid", "type", ("payload", "json"))


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_transforms_of_the_readme() -> None:
    listed = yaml.safe_load(block("yaml"))
    for one in listed:
        if "key" in one:
            one["key"] = expand(one["key"])
    batch = batch_of(
        insert(["1", "paid", "11", "4111", "a@b", "x"], WIDE),
        insert(["2", "paid", "9", "4111", "a@b", "x"], WIDE),
        insert(["3", "cart", "9", "{}", "{}"], OUTBOX),
    )
    found = changed(batch, *listed)
    assert list(found.ops) == [Op.INSERT, Op.REMOVED, Op.EVENT]
    first, _, event = found
    assert [column.name for column in first.schema.columns] == [
        "id", "status", "total", "card", "email",
    ]  # fmt: skip
    routes = [found.routes[schema_id] for schema_id in found.schema_ids]
    assert (routes[0], routes[2]) == ("public.orders.paid", "outbox.event.cart")
    assert event.op is Op.EVENT


def test_the_function_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_module.py").write_text(block("python"))
    monkeypatch.syspath_prepend(tmp_path)
    (shown,) = re.findall(r"^    - (\{type: python.*\})$", README, re.MULTILINE)
    batch: Batch = batch_of(insert(order(1)), delete(order(1)))
    found = changed(batch, yaml.safe_load(shown), letters=Letters())
    assert (list(found.ops), values(found, 1)) == ([Op.INSERT, Op.REMOVED], ["NEW"])
    assert found.schemas == [ORDERS]
    for name in ("my_package", "my_package.my_module"):
        sys.modules.pop(name, None)
