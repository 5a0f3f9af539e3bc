"""Which transactions a stream has had: sets of GTIDs (MySQL), the last of each domain (MariaDB).

Sets and their text: MySQL Reference Manual, "GTID Sets"; their bytes, with and without tags:
``Gtid_set::encode`` in MySQL's ``sql/rpl_gtid_set.cc``. Positions: MariaDB Knowledge Base, "Global
Transaction ID".
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

from connectors.mysql.bounds import parses, part
from connectors.mysql.damage import DamagedError

NUMBER_MAX: Final = (1 << 63) - 2
"""The servers' own limit."""

_SID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
_DOMAIN = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")

_uint64 = struct.Struct("<Q")
_interval = struct.Struct("<QQ")

_TAGGED: Final = 1 << 56
_COUNT_OF_TAGGED: Final = (1 << 56) - (1 << 8)


def uuid_text(sid: bytes) -> str:
    """The text of a server's UUID, as the server prints it."""
    digits = sid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class GtidSet:
    """A set of MySQL's GTIDs. Adding them in order costs about as much as a look into a dict,
    however many there are."""

    def __init__(self) -> None:
        # Bounds of a source's numbers, rising: the first of an interval and the one behind its
        # last, and so on. A number is in an interval where an odd count of bounds is at or below.
        self._bounds: dict[tuple[str, str], list[int]] = {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of the server's or the user's text, in any order. Raises `DamagedError`."""
        found = cls()
        for source in re.sub(r"\s", "", text).lower().split(","):
            if not source:
                continue
            sid, *parts = source.split(":")
            if not _SID.fullmatch(sid) or not parts:
                raise DamagedError("a text that is no GTID set")
            found._parse_source(uuid_text(bytes.fromhex(sid.replace("-", ""))), parts)
        return found

    def _parse_source(self, sid: str, parts: list[str]) -> None:
        tag = ""
        for text in parts:
            interval = _INTERVAL.fullmatch(text)
            if interval is None:
                if not _TAG.fullmatch(text):
                    raise DamagedError("a text that is no GTID set")
                tag = text
                continue
            first = int(interval[1])
            last = int(interval[2] or first)
            if not 0 < first <= NUMBER_MAX or last > NUMBER_MAX:
                raise DamagedError("a GTID set with a number that no transaction has")
            self.add_interval(sid, tag, first, last + 1)

    def add(self, sid: str, tag: str, number: int) -> None:
        """Add one GTID; ``sid`` and ``tag`` in lower case, as events and `parse` give them."""
        bounds = self._bounds.get((sid, tag))
        if bounds is not None and bounds[-1] == number:
            bounds[-1] = number + 1
        else:
            self.add_interval(sid, tag, number, number + 1)

    def add_interval(self, sid: str, tag: str, first: int, end: int) -> None:
        """Add the numbers from ``first`` to before ``end``."""
        if first < 1 or end > NUMBER_MAX + 1:
            raise DamagedError("a number that no transaction has")
        if end <= first:
            return
        bounds = self._bounds.setdefault((sid, tag), [])
        # Intervals that touch become one: bounds from `first` to `end`, both included, go.
        low = bisect_right(bounds, first - 1)
        high = bisect_right(bounds, end)
        bounds[low:high] = [first] * (low % 2 == 0) + [end] * (high % 2 == 0)

    def add_all(self, other: GtidSet) -> None:
        for (sid, tag), first, end in other.intervals():
            self.add_interval(sid, tag, first, end)

    def has(self, sid: str, tag: str, number: int) -> bool:
        """Whether one GTID is in the set."""
        return bisect_right(self._bounds.get((sid, tag), ()), number) % 2 == 1

    def contains(self, other: GtidSet) -> bool:
        """Whether all of another set is in this one."""
        for source, first, end in other.intervals():
            bounds = self._bounds.get(source, ())
            at = bisect_right(bounds, first)
            if at % 2 == 0 or bounds[at] < end:
                return False
        return True

    def minus(self, other: GtidSet) -> Self:
        """What is in this set and not in the other."""
        left = self.copy()
        for source, first, end in other.intervals():
            bounds = left._bounds.get(source)
            if bounds is None:
                continue
            low, high = bisect_right(bounds, first - 1), bisect_right(bounds, end)
            bounds[low:high] = [first] * (low % 2) + [end] * (high % 2)
            if not bounds:
                del left._bounds[source]
        return left

    def intervals(self) -> Iterator[tuple[tuple[str, str], int, int]]:
        """Source and tag, the first number and the one behind the last, of each interval, by UUID,
        tag and number."""
        for source, bounds in sorted(self._bounds.items()):
            for at in range(0, len(bounds), 2):
                yield source, bounds[at], bounds[at + 1]

    def copy(self) -> Self:
        made = type(self)()
        made._bounds = {source: bounds.copy() for source, bounds in self._bounds.items()}
        return made

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._bounds == other._bounds

    __hash__ = None  # type: ignore[assignment]  # A set that changes.

    def __str__(self) -> str:
        """The canonical text, in one line: ``uuid:1-5:8:tag:1-3,uuid:7``."""
        parts: list[str] = []
        last: tuple[str, str] = ("", "")
        for source, first, end in self.intervals():
            sid, tag = source
            if sid != last[0]:
                parts.append(f",{sid}" if parts else sid)
            if tag and source != last:
                parts.append(f":{tag}")
            parts.append(f":{first}" if end == first + 1 else f":{first}-{end - 1}")
            last = source
        return "".join(parts)

    def encode(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID has it: with tags, which servers from 8.3 on read, only if there
        are any."""
        tagged = any(tag for _, tag in self._bounds)
        count = len(self._bounds)
        parts = [_uint64.pack(_TAGGED | count << 8 | 1 if tagged else count)]
        for (sid, tag), bounds in sorted(self._bounds.items()):
            parts.append(bytes.fromhex(sid.replace("-", "")))
            if tagged:
                # An integer of the serialization library: below 128 it is twice the value.
                parts.append(bytes([len(tag) << 1]) + tag.encode())
            parts.append(_uint64.pack(len(bounds) // 2))
            parts.append(struct.pack(f"<{len(bounds)}Q", *bounds))
        return b"".join(parts)

    @classmethod
    @parses("a GTID set")
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; raises `DamagedError`, for bytes behind the set too."""
        found = cls()
        (count,) = _uint64.unpack_from(data)
        tagged, at = count >> 56 == 1, 8
        if tagged:
            count = (count & _COUNT_OF_TAGGED) >> 8
        for _ in range(count):
            sid, tag = uuid_text(part(data, at, 16)), ""
            at += 16
            if tagged:
                size = data[at] >> 1
                tag = part(data, at + 1, size).decode("ascii")
                at += 1 + size
                if data[at - 1 - size] & 1 or (tag and not _TAG.fullmatch(tag)):
                    raise DamagedError("a GTID set with a tag that is none")
            (intervals,) = _uint64.unpack_from(data, at)
            numbers = part(data, at + 8, intervals * _interval.size)
            at += 8 + len(numbers)
            end = 0
            for first, behind in _interval.iter_unpack(numbers):
                if first <= end or behind <= first:
                    raise DamagedError("a GTID set whose intervals do not rise")
                end = behind
                found.add_interval(sid, tag, first, end)
        if at != len(data):
            raise DamagedError("a GTID set with something behind it")
        return found


class Last(NamedTuple):
    """The last transaction of a domain."""

    server_id: int
    sequence: int


class GtidPosition:
    """The last transaction of each of MariaDB's domains."""

    def __init__(self) -> None:
        self._last: dict[int, Last] = {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``domain-server-sequence``, separated by commas. Raises `DamagedError`."""
        found = cls()
        for item in re.sub(r"\s", "", text).split(","):
            if not item:
                continue
            match = _DOMAIN.fullmatch(item)
            numbers = [int(digits) for digits in match.groups()] if match else []
            if not numbers or max(numbers[:2]) >> 32 or numbers[2] >> 64:
                raise DamagedError("a text that is no GTID position")
            if numbers[0] in found._last:
                raise DamagedError("a GTID position with a domain twice")
            found.advance(*numbers)
        return found

    def advance(self, domain: int, server_id: int, sequence: int) -> None:
        """The stream has had this transaction."""
        self._last[domain] = Last(server_id, sequence)

    def sequence(self, domain: int) -> int:
        """The last sequence number of a domain; 0 if it had none."""
        last = self._last.get(domain)
        return last.sequence if last is not None else 0

    def contains(self, other: GtidPosition) -> bool:
        """Whether this position is at or behind another in each domain that the other has."""
        return all(self.sequence(domain) >= last.sequence for domain, last in other._last.items())

    def domains(self) -> dict[int, Last]:
        """The last transaction by domain."""
        return dict(self._last)

    def copy(self) -> Self:
        made = type(self)()
        made._last = self._last.copy()
        return made

    def __bool__(self) -> bool:
        return bool(self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidPosition) and self._last == other._last

    __hash__ = None  # type: ignore[assignment]  # A position that changes.

    def __str__(self) -> str:
        """``0-1-100,1-2-5``, by domain."""
        return ",".join(
            f"{domain}-{id_}-{seq}" for domain, (id_, seq) in sorted(self._last.items())
        )
