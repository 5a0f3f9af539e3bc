"""From records of other brokers to rows: sources make a `Decoder` by the name in their option
``decode`` and give it record after record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

from ensign_core.errors import EnsignError
from ensign_core.formats.decoded_debezium import DebeziumDecoder
from ensign_core.formats.decoded_json import JsonDecoder
from ensign_core.formats.records import Decoder, Row

__all__ = ["DECODERS", "Decoder", "DecoderName", "Row", "decoder"]

DecoderName = Literal["json", "debezium"]
"""For a config model's field."""

_MAKERS: Final[dict[str, Callable[[], Decoder]]] = {
    "json": JsonDecoder,
    "debezium": DebeziumDecoder,
}

DECODERS: Final[tuple[DecoderName, ...]] = get_args(DecoderName)


def decoder(name: str) -> Decoder:
    """A new decoder. Raises ``decode.unknown``."""
    make = _MAKERS.get(name)
    if make is None:
        raise EnsignError(
            "decode.unknown",
            "There is no decoder of that name.",
            f"Choose one of: {', '.join(DECODERS)}.",
        )
    return make()
