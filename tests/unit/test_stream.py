"""Sealed streams: whatever happens to their blocks is seen."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidTag

from ensign_core.crypto import open_stream, seal_stream
from ensign_core.crypto.stream import BLOCK_BYTES, TAG_BYTES

KEY = bytes(range(32))
SEALED = BLOCK_BYTES + TAG_BYTES


def sealed(size: int) -> list[bytes]:
    return list(seal_stream(KEY, [random.Random(size).randbytes(size)]))


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 << 20])
def test_however_it_is_cut(size: int) -> None:
    data = random.Random(size).randbytes(size)
    step = size // 7 + 1
    blocks = list(seal_stream(KEY, [data[n : n + step] for n in range(0, size, step)]))
    assert blocks == sealed(size)
    assert len(blocks) == max(1, -(-size // BLOCK_BYTES))
    joined = b"".join(blocks)
    cut = [joined[n : n + step + 9] for n in range(0, len(joined), step + 9)]
    assert b"".join(open_stream(KEY, cut)) == data


@pytest.mark.parametrize("change", [
    lambda blocks: blocks[:-1],
    lambda blocks: blocks[1:],
    lambda blocks: [blocks[0], blocks[2], blocks[1], *blocks[3:]],
    lambda blocks: [*blocks[:2], *blocks[1:]],
    lambda blocks: [*blocks, blocks[-1]],
    lambda blocks: [*blocks[:-1], blocks[-1][:-1]],
    lambda blocks: [*blocks, b"x"],
    lambda blocks: [],
    lambda blocks: [bytes([blocks[0][0] ^ 1]) + blocks[0][1:], *blocks[1:]],
    lambda blocks: [*blocks[:-1], sealed(BLOCK_BYTES + 7)[-1]],
])  # fmt: skip
def test_what_is_not_as_it_was_sealed_does_not_open(change: object) -> None:
    assert callable(change)
    changed = change(sealed(3 * BLOCK_BYTES + 7))
    with pytest.raises(InvalidTag):
        list(open_stream(KEY, changed))


def test_another_key() -> None:
    with pytest.raises(InvalidTag):
        list(open_stream(bytes(32), sealed(5)))
