"""What `ensign_core.rows.edit` and conditions do, one event and one value at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from ensign_core.change import BINARY, KEY_IMAGE, NEW_IMAGE, TEXT, image_end
from ensign_core.config.conditions import Term
from ensign_core.rows import ABSENT, Unchanged, Value, decode, split

Edit = bytes | int | Callable[[bytes], bytes] | None


def edited_row(row: bytes, picked: Sequence[int], edits: Sequence[Edit]) -> bytes:
    kinds, values = split(row)
    parts = [len(picked).to_bytes(2, "big")]
    for place, edit in zip(picked, edits, strict=True):
        kind, value = kinds[place], values[place]
        if kind not in (TEXT, BINARY):
            parts.append(bytes((kind,)))
            continue
        if isinstance(edit, int):
            value = value.decode("utf-8", "surrogateescape")[:edit].encode(
                "utf-8", "surrogateescape"
            )
        elif edit is not None:
            kind, value = TEXT, edit if isinstance(edit, bytes) else edit(value)
        parts += [bytes((kind,)), len(value).to_bytes(4, "big"), value]
    return b"".join(parts)


def edited_body(body: bytes, picked: Sequence[int], edits: Sequence[Edit]) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        end = image_end(body, at + 1)
        parts += [body[at : at + 1], edited_row(body[at + 1 : end], picked, edits)]
        at = end
    return b"".join(parts)


def value_of(body: bytes, place: int, *, in_key: bool, old_first: bool) -> Value:
    """A column's value in an event, ABSENT where it is not known."""
    images: dict[int, Value] = {}
    at = 0
    while at < len(body):
        end = image_end(body, at + 1)
        known = body[at] != KEY_IMAGE or in_key
        images[body[at]] = decode(body[at + 1 : end])[place] if known else ABSENT
        at = end
    new = images.pop(NEW_IMAGE, None) if NEW_IMAGE in images else _NONE
    old = next(iter(images.values()), _NONE)
    if new is ABSENT:
        return ABSENT if old is _NONE else old
    first, second = (old, new) if old_first else (new, old)
    found = second if first is _NONE else first
    return ABSENT if found is _NONE else found


_NONE = Unchanged()
"""There is no such image."""

_COMPARE: Mapping[str, Callable[[object, object], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}


def truth(term: Term, row: Mapping[str, object]) -> object:
    """What a condition is for one row: columns are ints, text, None for null, ABSENT for unknown,
    which comes out as null."""
    match term.op:
        case "constant":
            return term.value
        case "column":
            value = row[term.name]
            return None if value is ABSENT else value
        case "is":
            column = term.of[0]
            if column.op == "column" and row[column.name] is ABSENT:
                return None
            return truth(column, row) is term.of[1].value
        case "not":
            value = truth(term.of[0], row)
            return None if value is None else not value
        case "and" | "or":
            parts = [truth(part, row) for part in term.of]
            decisive = term.op == "or"
            if decisive in parts:
                return decisive
            return None if None in parts else not decisive
        case "neg":
            value = truth(term.of[0], row)
            return None if value is None else operator.neg(value)  # type: ignore[arg-type]  # an int
        case "in":
            value, *others = (truth(part, row) for part in term.of)
            if value is None:
                return None
            if value in [other for other in others if other is not None]:
                return True
            return None if None in others else False
    left, right = (truth(part, row) for part in term.of)
    return None if left is None or right is None else _COMPARE[term.op](left, right)
