"""Which published events are equal, by a topic's policy: canonical forms, and keyed hashes of them.

A canonical form is a list of parts, each behind its length, so that no two lists give the same
bytes; a missing part is none at all, which no part is. The hash is 128 bits under a key of the
project: equal hashes are taken for equal events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from ensign_core.broker.events import Event
from ensign_core.broker.policy import Deduplication

MARK_BYTES = 4
"""Bytes before each hash that tell the policies apart which a topic has had."""

_number = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?").fullmatch
_ABSENT = object()


class Hasher:
    """Hashes the events of one topic by its policy. Shared between threads."""

    def __init__(
        self, fingerprint: Callable[[bytes], bytes], topic_id: bytes, policy: Deduplication
    ) -> None:
        self.policy = policy
        definition = [policy.strategy.encode()]
        definition += [_joined(map(str.encode, sorted(n))) for n in (policy.keys, policy.fields)]
        self._about = _joined([b"duplicates", topic_id, *definition])
        self.mark = fingerprint(self._about)[:MARK_BYTES]
        """What all its hashes begin with."""
        self._fingerprint = fingerprint

    def __call__(self, event: Event) -> bytes | None:
        """The event's hash; None if it is a duplicate of nothing."""
        parts = _parts(self.policy, event)
        if parts is None:
            return None
        return self.mark + self._fingerprint(self._about + _joined(parts))


def _parts(policy: Deduplication, event: Event) -> list[bytes | None] | None:
    if policy.strategy == "datagram":
        return [event.data]
    if policy.strategy == "unique_field":
        return _fields(event.data, sorted(policy.fields))
    if policy.strategy == "strict":
        pairs = [part for pair in sorted(event.metadata.items()) for part in pair]
        return [event.data, _joined(map(_text, pairs)), _text(event.mimetype), _text(event.type)]
    values = [_text(event.metadata.get(key)) for key in sorted(policy.keys)]
    if policy.strategy == "key_grouped":
        return [event.data, *values]
    return values if any(value is not None for value in values) else None


def _fields(data: bytes, names: Iterable[str]) -> list[bytes | None] | None:
    """The values of fields of a JSON object; None if ``data`` is none or has none of them."""
    try:
        document = json.loads(data, parse_int=_Number, parse_float=_Number, parse_constant=_refuse)
        values = [_found(document, name.split(".")) for name in names]
        if all(value is _ABSENT for value in values):
            return None
        return [None if value in (_ABSENT, None) else _canonical(value) for value in values]
    except (ValueError, RecursionError):
        return None


class _Number:
    """A number of JSON by its value, however it is written and however large it is."""

    def __init__(self, text: str) -> None:
        match = _number(text)
        if match is None:
            raise ValueError(text)
        sign, whole, fraction, exponent = match.groups("")
        digits = (whole + fraction).lstrip("0")
        kept = digits.rstrip("0")
        power = int(exponent or 0) - len(fraction) + len(digits) - len(kept)
        self.canonical = f"{sign}{kept}e{power}" if kept else "0"


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _found(document: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return _ABSENT
        document = document[name]
    return document


def _canonical(value: Any) -> bytes:
    """A value of JSON as bytes that only equal values have."""
    if isinstance(value, str):
        return b"s" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, _Number):
        return b"n" + value.canonical.encode()
    if isinstance(value, list):
        return b"l" + _joined(map(_canonical, value))
    if isinstance(value, dict):
        pairs = sorted((_canonical(name), _canonical(item)) for name, item in value.items())
        return b"o" + _joined(part for pair in pairs for part in pair)
    return {None: b"0", False: b"f", True: b"t"}[value]


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogatepass")


def _joined(parts: Iterable[bytes | None]) -> bytes:
    return b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts)
