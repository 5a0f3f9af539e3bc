"""Which charset a collation belongs to, by the number that the binlog has for it."""

from __future__ import annotations

from typing import Final

_CHARSETS: Final[dict[int, str]] = {
    5: "latin1", 8: "latin1", 11: "ascii", 15: "latin1", 31: "latin1", 33: "utf8mb3",
    35: "ucs2", 45: "utf8mb4", 46: "utf8mb4", 47: "latin1", 48: "latin1", 49: "latin1",
    54: "utf16", 60: "utf32", 63: "binary", 65: "ascii", 83: "utf8mb3", 90: "ucs2",
    94: "latin1", 255: "utf8mb4",
}  # fmt: skip


def charset_of(collation: int) -> str:
    """The charset's name; empty for a collation that is not known."""
    return _CHARSETS.get(collation, "utf8mb4" if 256 <= collation < 2048 else "")
