"""What a slot keeps of the server's log, and when an operator should know. Pure: no I/O.

``wal_status`` and ``safe_wal_size`` are those of the PostgreSQL documentation, view
pg_replication_slots.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from connectors.postgres.errors import error
from ensign_core.errors import EnsignError

CALM_S: Final = 30.0
"""How long what a warning is about must be over before it is taken back, so that none flaps."""

CALM_SHARE: Final = 0.8
"""The share of a threshold below which a warning is over."""

SAFE_SHARE: Final = 0.25
"""The share of max_slot_wal_keep_size that may be left before a slot counts as endangered."""

STALL_S: Final = 60.0
"""How long a position may stand still while the server's log grows."""

STALL_BYTES: Final = 16 << 20
"""By how much the log must have grown: a segment's size, more than an idle server writes."""


class Retention(NamedTuple):
    """What the server says of the slot now. ``end``, ``restart`` and ``confirmed`` are LSNs,
    ``limit_bytes`` is max_slot_wal_keep_size or None, ``safe_bytes`` is None without a limit."""

    end: int
    restart: int
    confirmed: int
    wal_status: str
    safe_bytes: int | None
    limit_bytes: int | None

    @property
    def kept_bytes(self) -> int:
        return max(0, self.end - self.restart) if self.restart else 0


class Progress(NamedTuple):
    """Where the source stands. ``rows`` are those consumed of the transaction under way."""

    lsn: int
    rows: int
    within: bool


class Judge:
    """Remembers what it said, to say it until it is over. The times are of `time.monotonic`."""

    def __init__(self, slot: str, warn_bytes: int) -> None:
        self._slot = slot
        self._warn_bytes = warn_bytes
        self._said: dict[str, tuple[EnsignError, float]] = {}
        self._moved: tuple[Progress, float, int] | None = None
        self._confirmed: tuple[int, float, int] | None = None

    def judge(self, now: float, found: Retention, at: Progress) -> list[EnsignError]:
        """The warnings that hold, of what the server and the source say ``now``."""
        for word, warning, over in (
            ("wal_kept", *self._kept(found)),
            ("slot_endangered", *self._endangered(found)),
            ("stalled", *self._stalled(now, found, at)),
        ):
            self._settle(word, warning, now, over=over)
        return [warning for warning, _ in self._said.values()]

    def _settle(self, word: str, warning: EnsignError | None, now: float, *, over: bool) -> None:
        if warning is not None:
            self._said[word] = warning, now
        elif word in self._said:
            said, since = self._said[word]
            if not over:
                self._said[word] = said, now
            elif now - since >= CALM_S:
                del self._said[word]

    def _kept(self, found: Retention) -> tuple[EnsignError | None, bool]:
        from_bytes = threshold(self._warn_bytes, found.limit_bytes)
        if found.kept_bytes < from_bytes and found.wal_status != "extended":
            return None, found.kept_bytes < CALM_SHARE * from_bytes
        return wal_kept(self._slot, found), False

    def _endangered(self, found: Retention) -> tuple[EnsignError | None, bool]:
        if not endangered(found):
            safe, limit = found.safe_bytes, found.limit_bytes
            over = safe is None or limit is None or safe > SAFE_SHARE / CALM_SHARE * limit
            return None, over
        return slot_endangered(self._slot, found), False

    def _stalled(
        self, now: float, found: Retention, at: Progress
    ) -> tuple[EnsignError | None, bool]:
        """The position does not move while the log does, or what is durable is not confirmed."""
        if self._moved is None or at != self._moved[0]:
            self._moved = at, now, found.end
        if self._confirmed is None or found.confirmed != self._confirmed[0] or at.within:
            self._confirmed = found.confirmed, now, found.end
        behind = at.lsn < found.end
        for stuck, (_, since, end), what in (
            (behind, self._moved, "the position"),
            (found.confirmed < at.lsn, self._confirmed, "what the server was told is durable"),
        ):
            if stuck and now - since >= STALL_S and found.end - end >= STALL_BYTES:
                seconds = int(now - since)
                grown = amount(found.end - end)
                facts = {"what": what, "seconds": seconds, "grown": grown, "slot": self._slot}
                return error("stalled", **facts), False
        return None, True


def threshold(warn_bytes: int, limit_bytes: int | None) -> int:
    """Kept bytes from which on a warning is given."""
    return warn_bytes if limit_bytes is None else min(warn_bytes, max(1, limit_bytes // 2))


def endangered(found: Retention) -> bool:
    """Whether the server may soon remove WAL that the slot needs."""
    if found.wal_status == "unreserved":
        return True
    if found.safe_bytes is None or not found.limit_bytes:
        return False
    return found.safe_bytes < SAFE_SHARE * found.limit_bytes


def wal_kept(slot: str, found: Retention) -> EnsignError:
    """The warning of much WAL, with what holds it: who reads the slot, or an open transaction."""
    limit = "no limit" if found.limit_bytes is None else f"limit {amount(found.limit_bytes)}"
    held = found.confirmed - found.restart > found.kept_bytes // 2
    word = "wal_kept_open" if held else "wal_kept"
    return error(word, slot=slot, kept=amount(found.kept_bytes), limit=limit)


def slot_endangered(slot: str, found: Retention) -> EnsignError:
    """The warning that the slot will be lost."""
    left = "the next checkpoint"
    if found.wal_status != "unreserved":
        left = f"another {amount(max(0, found.safe_bytes or 0))} of WAL"
    return error("slot_endangered", slot=slot, kept=amount(found.kept_bytes), left=left)


def amount(count: int) -> str:
    """Bytes as people read them."""
    size, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
