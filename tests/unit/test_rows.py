"""The bytes of the row layout, as PostgreSQL's "Logical Replication Message Formats" has them."""

from __future__ import annotations

import pytest

from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, check_body, decode, encode, new_image


def test_layout_is_that_of_tuple_data() -> None:
    row = encode([None, ABSENT, "é", b"\x00"])
    assert row == b"\0\4" + b"n" + b"u" + b"t\0\0\0\2\xc3\xa9" + b"b\0\0\0\1\0"
    assert decode(row) == [None, ABSENT, "é", b"\0"]
    assert new_image([]) == b"N\0\0"


@pytest.mark.parametrize("body", [b"", b"N\0\0", b"K\0\0", b"O\0\0", b"K\0\0N\0\0", b"O\0\0N\0\0"])
def test_bodies_that_may_be(body: bytes) -> None:
    check_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b"X",
        b"N",
        b"N\0",
        b"N\0\1",
        b"N\0\0N\0\0",
        b"N\0\0K\0\0",
        b"K\0\0O\0\0",
        b"N\0\1t\0\0\0\5ab",
    ],
)
def test_bodies_that_may_not_be(body: bytes) -> None:
    with pytest.raises(EnsignError) as raised:
        check_body(body)
    assert raised.value.code == "rows.damaged"
