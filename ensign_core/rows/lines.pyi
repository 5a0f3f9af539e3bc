from collections.abc import Sequence
from typing import overload

class Texts(Sequence[bytes]):
    """Lines without their newlines, cut out of ``block`` when they are asked for."""

    block: bytes
    """All of them, each with its newline."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
