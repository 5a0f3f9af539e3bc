"""Topic templates: which topic a table's events go to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Schema, event_schema
from ensign_core.config import topic_name
from ensign_core.errors import EnsignError

ORDERS = Schema(
    "public.my table", (("database", "shop"), ("schema", "public"), ("table", "my table")), ()
)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        (None, "shop.public.my-20table"),
        ("{database}.{schema}.{table}", "shop.public.my-20table"),
        ("all", "all"),
        ("cdc_{table}-{table}.v1", "cdc_my-20table-my-20table.v1"),
    ],
)
def test_topic_names(template: str | None, topic: str) -> None:
    assert topic_name(template, ORDERS) == topic


def test_escaping() -> None:
    schema = Schema("x", (("schema", "a.b-c"), ("table", "É_9/")), ())
    assert topic_name(None, schema) == "a-2eb-2dc.-c3-89_9-2f"
    assert topic_name("{topic}", event_schema("orders.v1-eu")) == "orders.v1-eu"
    assert topic_name(None, event_schema("a b")) == "a-20b"


@given(*[st.tuples(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))] * 2)
def test_no_two_tables_share_a_topic(a: tuple[str, str], b: tuple[str, str]) -> None:
    names = [
        topic_name(None, Schema("t", (("schema", schema), ("table", table)), ()))
        for schema, table in (a, b)
    ]
    assert (names[0] == names[1]) == (a == b)


def test_templates_that_do_not_fit_the_source() -> None:
    for template, schema in [
        ("{topic}", ORDERS),
        ("{database}", event_schema("t")),
        ("{table}", Schema("x", (("table", "é" * 100),), ())),
    ]:
        with pytest.raises(EnsignError) as caught:
            topic_name(template, schema)
        assert caught.value.code == "config.topic_template"
