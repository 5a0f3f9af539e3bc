"""``select``, ``drop``, ``rename``, ``mask``, ``hash`` and ``truncate``: rows and their schemas."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from pydantic import ValidationError

from ensign_core.change import Op, Schema, event_schema
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.rows import ABSENT, new_image
from tests.transforms import (
    ORDERS,
    Letters,
    batch_of,
    changed,
    config,
    delete,
    images,
    insert,
    key_of,
    order,
    table,
    update,
)

KEY = "a key of enough characters"


def names(schema: Schema) -> list[str]:
    return [column.name for column in schema.columns]


def refused(schema: Schema, row: list[Any], **options: Any) -> str:
    letters = Letters()
    with pytest.raises(EnsignError) as caught:
        changed(batch_of(insert(row, schema)), options, letters=letters)
    assert letters == []
    return caught.value.code


EVENTS = [
    insert(order(1, note="é")),
    update(order(1, note=ABSENT), order(1, note=None)),
    update(order(2), key_of(1), marker=b"K"),
    delete(key_of(2), marker=b"K"),
    (Op.TRUNCATE, ORDERS, b""),
]


def test_columns_are_selected_in_all_images() -> None:
    found = changed(batch_of(*EVENTS), {"type": "select", "columns": ["id", "not*"]})
    assert names(found.schemas[0]) == ["id", "note"]
    assert images(found) == [
        (None, ["1", "é"]),
        (["1", None], ["1", ABSENT]),
        (["1", None], ["2", ""]),
        (["2", None], None),
        (None, None),
    ]
    assert [change.images()[2] for change in found] == [False, False, True, True, False]
    assert found.schemas[0].key == (0,)


def test_columns_are_dropped() -> None:
    found = changed(batch_of(*EVENTS), {"type": "drop", "columns": ["note", "p*"]})
    assert names(found.schemas[0]) == ["id", "status", "amount"]
    assert images(found)[0] == (None, ["1", "new", "10.00"])


def test_columns_are_renamed_without_touching_a_row() -> None:
    batch = batch_of(*EVENTS)
    found = changed(batch, {"type": "rename", "columns": {"status": "state", "note": "status"}})
    assert names(found.schemas[0]) == ["id", "state", "amount", "paid", "placed", "status"]
    assert found.body is batch.body


def test_values_are_masked_in_all_images() -> None:
    found = changed(batch_of(*EVENTS), {"type": "mask", "columns": ["note", "amount"]})
    assert [(old and old[5], new and new[5]) for old, new in images(found)] == [
        (None, "***"), (None, ABSENT), (None, "***"), (None, None), (None, None),
    ]  # fmt: skip
    assert found.schemas[0].columns[2].logical == "text"
    assert b'"amount":"***"' in formatter("json").lines(found).texts[0]


def test_a_key_is_hashed_alike_in_all_images() -> None:
    found = changed(batch_of(*EVENTS), {"type": "hash", "columns": ["id"], "key": KEY})
    one, two = (hmac.new(KEY.encode(), n, hashlib.sha256).hexdigest() for n in (b"1", b"2"))
    assert [(old and old[0], new and new[0]) for old, new in images(found)] == [
        (None, one), (one, one), (one, two), (two, None), (None, None),
    ]  # fmt: skip
    assert found.schemas[0].key == (0,)
    assert found.schemas[0].columns[0].logical == "text"


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("", 0, ""), ("abc", 0, ""), ("abc", 3, "abc"), ("abc", 2, "ab"), ("é€😀x", 2, "é€"),
     ("é€😀x", 3, "é€😀"), ("é€😀x", 9, "é€😀x"), ("\udc80\udcffa", 1, "\udc80\udcff")],
)  # fmt: skip
def test_text_is_cut_between_characters(text: str, most: int, expected: str) -> None:
    batch = batch_of(insert(order(1, note=text)))
    found = changed(batch, {"type": "truncate", "columns": ["note"], "characters_max": most})
    assert images(found)[0][1] == order(1, note=expected)


def test_raw_bytes_are_hashed_and_masked() -> None:
    blobs = table("blobs", ("id", "int"), ("data", "bytes"))
    batch = batch_of(insert(["1", b"\xff\x00"], blobs))
    found = changed(batch, {"type": "hash", "columns": ["data"], "key": KEY})
    digest = hmac.new(KEY.encode(), b"\xff\x00", hashlib.sha256).hexdigest()
    assert images(found) == [(None, ["1", digest])]
    found = changed(batch, {"type": "mask", "columns": ["data"], "text": ""})
    assert images(found) == [(None, ["1", ""])]


def test_only_the_tables_that_are_named_change() -> None:
    users = table("users", ("id", "int"), "email")
    batch = batch_of(insert(["1", "a@b"], users), insert(order(1)), insert(["2", "c@d"], users))
    mask = {"type": "mask", "columns": ["email"], "tables": ["public.users"]}
    found = changed(batch, mask)
    assert images(found) == [(None, ["1", "***"]), (None, order(1)), (None, ["2", "***"])]
    # A glob may match nothing.
    assert images(changed(batch, {"type": "mask", "columns": ["e*l"]})) == images(found)
    assert refused(ORDERS, order(1), type="mask", columns=["email"]) == "transform.unknown_column"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"type": "drop", "columns": ["id"]}, "transform.key_dropped"),
        ({"type": "select", "columns": ["note"]}, "transform.key_dropped"),
        ({"type": "drop", "columns": ["*"], "keyless": True}, "transform.no_columns"),
        ({"type": "drop", "columns": ["nope"]}, "transform.unknown_column"),
        ({"type": "rename", "columns": {"nope": "a"}}, "transform.unknown_column"),
        ({"type": "rename", "columns": {"note": "id"}}, "transform.duplicate_column"),
        ({"type": "truncate", "columns": ["amount"], "characters_max": 1}, "transform.not_text"),
        ({"type": "mask", "columns": ["id"]}, "transform.key_replaced"),
        ({"type": "hash", "columns": ["nope"], "key": KEY}, "transform.unknown_column"),
    ],
)
def test_what_does_not_fit_the_table_stops(options: dict[str, Any], code: str) -> None:
    assert refused(ORDERS, order(1), **options) == code


def test_a_key_can_be_let_go_of() -> None:
    found = changed(
        batch_of(insert(order(1))), {"type": "drop", "columns": ["id"], "keyless": True}
    )
    assert found.schemas[0].key == ()


def test_the_columns_of_events_are_fixed() -> None:
    events = event_schema("clicks")
    row = [b"k", b'{"a": 1}', None, "application/json", "seen"]
    for options in (
        {"type": "drop", "columns": ["type"]}, {"type": "rename", "columns": {"type": "kind"}},
        {"type": "mask", "columns": ["metadata"]},
    ):  # fmt: skip
        assert refused(events, row, **options) == "transform.event_columns"
    batch = batch_of((Op.EVENT, events, new_image(row)))
    found = changed(batch, {"type": "hash", "columns": ["key"], "key": KEY})
    digest = hmac.new(KEY.encode(), b"k", hashlib.sha256).hexdigest()
    assert f'"key":"{digest}"'.encode() in formatter("json").lines(found).texts[0]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"type": "hash", "columns": ["a"], "key": "short"}, "config.hash_key"),
        ({"type": "hash", "columns": ["a"]}, "missing"),
        ({"type": "mask", "columns": []}, "too_short"),
        ({"type": "nope"}, "union_tag_invalid"),
        ({"type": "drop", "columns": ["a"], "colums": ["a"]}, "extra_forbidden"),
        ({"type": "truncate", "columns": ["a"], "characters_max": -1}, "greater_than_equal"),
    ],
)
def test_bad_options_are_refused_with_the_config(options: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**options)
    (error,) = caught.value.errors(include_url=False, include_input=False)
    assert error["type"] == kind


def test_the_key_of_a_hash_is_never_shown() -> None:
    assert KEY not in repr(config(type="hash", columns=["a"], key=KEY))


def test_damaged_rows_are_set_aside() -> None:
    for body in (b"N\0\6t", b"N\0\1n", b"X", b"N\0\6nnnnnnN\0\6nnnnnn", b"K\0\6nnnnnnK\0\6nnnnnn"):
        letters = Letters()
        batch = batch_of(insert(order(1)), (Op.INSERT, ORDERS, body), insert(order(2)))
        found = changed(batch, {"type": "drop", "columns": ["note"]}, letters=letters)
        assert (list(found.ops), letters.codes) == (
            [Op.INSERT, Op.REMOVED, Op.INSERT], ["rows.damaged"],
        )  # fmt: skip
        assert letters[0][0].body == body
