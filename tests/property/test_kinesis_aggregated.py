"""Any records survive aggregation, and no bytes at all upset the reader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.kinesis.aggregated import HASH_MAX, key_hash, split
from tests.plain import kpl

RECORDS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.binary(max_size=300),
        st.none() | st.integers(0, HASH_MAX),
    ),
    max_size=20,
)


@given(RECORDS)
def test_what_was_aggregated_comes_out(records: list[tuple[str, bytes, int | None]]) -> None:
    assert split(kpl.aggregate(records)) == [
        (key, data, key_hash(key) if explicit is None else explicit)
        for key, data, explicit in records
    ]


@given(RECORDS, st.data())
def test_damage_is_found_or_does_no_harm(
    records: list[tuple[str, bytes, int | None]], data: st.DataObject
) -> None:
    """Messages whose checksum is right and whose bytes are not."""
    body = bytearray(kpl.message(records))
    for _ in range(data.draw(st.integers(1, 3))):
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            kind = data.draw(st.sampled_from(["change", "cut", "insert"]))
            if kind == "change":
                body[at] = data.draw(st.integers(0, 255))
            elif kind == "cut":
                del body[at : at + data.draw(st.integers(1, 8))]
            else:
                body[at:at] = data.draw(st.binary(max_size=8))
    split(kpl.sealed(bytes(body)))


@given(st.binary(max_size=200))
def test_any_message_does_no_harm(body: bytes) -> None:
    split(kpl.sealed(body))
    split(kpl.MAGIC + body)
