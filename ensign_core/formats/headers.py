"""Headers of a record, as the text of a column of the logical type ``headers``: a JSON list of
``[name, value]`` in their order, names repeated as they come. A value is a string where it is
UTF-8, ``{"base64": ...}`` where it is not, null where it is null: nothing is lost on the way back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from ensign_core.formats.values import quote, text_or_base64

Headers = list[tuple[str, bytes | None]]


def headers_text(pairs: Iterable[tuple[str, bytes | None]]) -> str:
    """The text of headers."""
    texts = (
        f"[{quote(name)},{'null' if value is None else text_or_base64(value)}]"
        for name, value in pairs
    )
    return f"[{','.join(texts)}]"


def header_pairs(text: str | bytes) -> Headers:
    """Headers of their text."""
    return [(name, _bytes(value)) for name, value in json.loads(text)]


def _bytes(value: str | dict[str, str] | None) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else value.encode()
