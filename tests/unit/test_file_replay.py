"""Lines that the file source set aside, replayed."""

from __future__ import annotations

import pytest

from connectors.file import SOURCE
from connectors.file.config import FileSourceConfig
from ensign_core.change import SET_ASIDE, BatchBuilder, Op, event_schema
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image


def test_lines_that_were_set_aside_are_read_as_they_would_be_now() -> None:
    builder = BatchBuilder()
    for line in (b'{"id": "7"}', b"{broken"):
        builder.add(Op.EVENT, SET_ASIDE, new_image([None, line, None, None, None]))
    batch = builder.take(None)
    config = FileSourceConfig(type="file", path="in/app.jsonl", key="id")
    (change,) = SOURCE.replay(config, batch.part(0, 1))
    assert change.schema == event_schema("app")
    assert decode(change.body[1:]) == [b"7", b'{"id": "7"}', None, "application/json", None]
    with pytest.raises(EnsignError) as raised:
        SOURCE.replay(config, batch.part(1, 2))
    assert raised.value.code == "file.line_malformed"
    refused = SOURCE.replay(FileSourceConfig(type="file", path="other"), change.batch)
    assert refused is change.batch, "an event that a transform refused is one already"
