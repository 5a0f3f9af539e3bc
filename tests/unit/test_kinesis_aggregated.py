"""Records that the Kinesis Producer Library has aggregated."""

from __future__ import annotations

import base64

import pytest

from connectors.kinesis.aggregated import HASH_MAX, UserRecord, key_hash, split
from tests.plain import kpl

# Made by awslabs/kinesis-aggregation: the Python package, and the Ruby one's expected output.
THREE_KEYS = (
    "84mawgoEcGstMAoEcGstMQoEcGstMhoTCAAaD3sibXNnIjoibGluZTAifRoTCAEaD3sibXNnIjoibGluZTEifRoTCAIaD3"
    "sibXNnIjoibGluZTIifZ8hyadI+v2KZPZrUGim6cQ="
)
HASH_KEYS = (
    "84mawgokZmMwM2RkODgtM2U3OS00NDhhLWIwMWEtN2NmMWJkNDdiNzg0CiRjYWU0MWIxYy1lYTYxLTQz"
    "ZjItOTBiZS1iODc1NWViZjg4ZTIKJGQ0OTA2OTBjLWU3NGQtNGRiMi1hM2M4LWQ4ZjJmMTg0ZmQyMwokYzkyNGJjMDktYjg1ZS00N2"
    "YxLWIzMmUtMzM2NTIyZWU1M2M4EiYzODQ4NjQ5NTg2NzUwODM5OTA3ODE1OTcyMzg0NjA1MTgwNzAyMBInMTkzNzg3NjAwMDM3Njgx"
    "NzA2OTUyMTQzMzU3MDcxOTE2MzUyNjA0EicyNjY4ODA0MzY5NjQ5MzI0MjQyNjU0NjY5MTY3MzQwNjg2ODQ0MzkSJzMzOTYwNjYwMD"
    "k0Mjk2NzM5MTg1NDYwMzU1MjQwMjAyMTg0NzI5MhomCAAQABogUkVDT1JEIDIyIHBlZW9iaGN6YnpkbXNrYm91cGd5cQoaJggBEAEa"
    "IFJFQ09SRCAyMyB1c3dreGZ0eHJvZXVzc2N4c2pobm8KGiYIAhACGiBSRUNPUkQgMjQgY2FzZWhkZ2l2ZmF4ZXVzdGx5c3p5ChomCA"
    "MQAxogUkVDT1JEIDI1IG52ZmZ2cG11b2dkb3BqaGFtZXZyawpRwVPQ3go0yp4Y6kvM0q3V"
)  # fmt: skip


def test_records_of_another_implementation() -> None:
    found = split(base64.b64decode(THREE_KEYS))
    assert found == [
        UserRecord(f"pk-{n}", b'{"msg":"line%d"}' % n, key_hash(f"pk-{n}")) for n in range(3)
    ]
    records = [(f"pk-{n}", b'{"msg":"line%d"}' % n, None) for n in range(3)]
    assert kpl.aggregate(records) == base64.b64decode(THREE_KEYS)


def test_explicit_hash_keys_of_another_implementation() -> None:
    found = split(base64.b64decode(HASH_KEYS))
    assert found is not None
    assert found[0].partition_key == "fc03dd88-3e79-448a-b01a-7cf1bd47b784"
    assert found[0].data == b"RECORD 22 peeobhczbzdmskboupgyq\n"
    assert [record.hash for record in found] == [
        38486495867508399078159723846051807020, 193787600037681706952143357071916352604,
        266880436964932424265466916734068684439, 339606600942967391854603552402021847292,
    ]  # fmt: skip


def test_unknown_fields_and_tags_are_passed_over() -> None:
    record = kpl.field(1, 0) + kpl.field(4, kpl.field(1, b"tag")) + kpl.field(3, b"data")
    fixed = b"\x49" + bytes(8) + b"\x55" + bytes(4)
    body = kpl.field(1, b"key") + fixed + kpl.field(3, record + fixed)
    assert split(kpl.sealed(body)) == [UserRecord("key", b"data", key_hash("key"))]


def test_an_aggregate_of_nothing() -> None:
    assert split(kpl.sealed(b"")) == []


KEY = kpl.field(1, b"key")
DATA = kpl.field(3, b"data")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain",
        kpl.MAGIC,
        kpl.MAGIC + bytes(16),
        kpl.aggregate([("key", b"data", None)])[:-1] + b"\0",
        kpl.sealed(KEY + kpl.field(3, DATA)),
        kpl.sealed(KEY + kpl.field(3, kpl.field(1, 0))),
        kpl.sealed(KEY + kpl.field(3, kpl.field(1, 1) + DATA)),
        kpl.sealed(KEY + kpl.field(3, kpl.field(1, b"0") + DATA)),
        kpl.sealed(KEY + kpl.field(3, kpl.field(1, 0) + kpl.field(2, 0) + DATA)),
        kpl.sealed(KEY + kpl.field(3, kpl.field(1, 0) + kpl.field(3, 1))),
        kpl.sealed(kpl.field(1, b"\xff")),
        kpl.sealed(kpl.field(2, str(HASH_MAX + 1).encode())),
        kpl.sealed(kpl.field(2, b"-1")),
        kpl.sealed(kpl.field(2, b"9" * 5000)),
        kpl.sealed(KEY[:-1]),
        kpl.sealed(b"\x0a" + b"\xff" * 11),
        kpl.sealed(b"\x08" + b"\xff" * 9 + b"\x7f"),
        kpl.sealed(b"\x0b"),
        kpl.sealed(b"\x02\x00"),
    ],
)
def test_what_is_no_aggregate_is_a_plain_record(data: bytes) -> None:
    assert split(data) is None
