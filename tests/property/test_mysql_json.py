"""MySQL's binary JSON to text: the compiled reader against a plain writer and against the decoder
of mysql-replication, and against damage."""

from __future__ import annotations

import json
from importlib import import_module
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.mysql.binaryjson import JsonError, json_patched, json_text
from tests.plain.binaryjson import Json, blob, double, encode, text

# It comes without types.
parse_json = import_module("pymysqlreplication.json_binary").parse_json

STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
)
BLOBS = st.builds(blob, st.sampled_from([15, 16, 252, 255]), st.binary(max_size=300))


def documents(scalars: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(STRINGS, inner, max_size=5),
        max_leaves=12,
    )


@settings(deadline=None)
@given(documents(PLAIN | BLOBS))
@example(["x" * 70_000, -5, 70_000, 2**32 - 1, None, True, 1.5, {"a": ["y" * 70_000]}])
@example({"k" * 65_535: 1, "z": "y" * 70_000, "n": None, "i": -(2**31)})
@example(["x" * 127, "x" * 128, "x" * 16_383, "x" * 16_384])
@example([{str(n): n for n in range(3000)}, *range(-3000, 3000)])
def test_the_text_is_that_of_the_plain_writer(document: Json) -> None:
    assert json_text(encode(document)).decode() == text(document)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e15)
@example(999999999999999.0)
@example(9007199254740992.0)
@example(1234567890123456.8)
@example(1e-15)
@example(1e-16)
@example(5e-324)
@example(-0.0)
def test_doubles_are_written_as_the_server_does(value: float) -> None:
    written = json_text(encode(value)).decode()
    assert written == double(value)
    assert float(written) == value


def as_decoded(value: object) -> object:
    """What the decoder makes of a value: it leaves text as bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [as_decoded(each) for each in value]
    if isinstance(value, dict):
        return {key.encode(): as_decoded(each) for key, each in value.items()}
    return value


@settings(deadline=None)
@given(documents(PLAIN))
def test_the_values_are_those_of_another_decoder(document: Json) -> None:
    data = encode(document)
    decoded = parse_json(data[0], data[1:])
    assert as_decoded(json.loads(json_text(data))) == decoded


@settings(deadline=None)
@given(documents(PLAIN | BLOBS), st.randoms(use_true_random=False), st.data())
def test_damage_is_an_error_or_another_text(
    document: Json, random: Random, data: st.DataObject
) -> None:
    damaged = bytearray(encode(document))
    for _ in range(random.choice((1, 1, 2, 8))):
        damaged[random.randrange(len(damaged))] = random.randrange(256)
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    try:
        found = json_text(bytes(damaged))
    except JsonError:
        return
    found.decode()
    # A byte is six characters at most, if it must be escaped, or a fourth of a double's 34.
    assert len(found) <= 8 * len(damaged) + 8


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_or_a_text(data: bytes) -> None:
    for old, diff in (
        (data, b""),
        (b"\x00\x00\x00\x04\x00", data),
        (b"\x02\x00\x00\x04\x00", data),
    ):
        try:
            json_patched(old, diff).decode()
        except JsonError:
            continue
    with pytest.raises(JsonError):
        json_text(b"\x0d" + data)
