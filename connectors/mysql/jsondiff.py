"""Partial updates of MySQL's JSON documents: what PARTIAL_UPDATE_ROWS_EVENT has of a column.

A document is a tree here: objects are dicts by the key's bytes, arrays are lists, and a scalar is
its text. The changes of one update are, one behind the other, an operation's byte, a path and, but
for a removal, a value in binary JSON, both behind their length as the protocol writes lengths
("Json_diff_vector" of the server's ``json_diff.cc``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

Tree = dict[bytes, "Tree"] | list["Tree"] | bytes
Leg = bytes | int

REPLACE: Final = 0
INSERT: Final = 1
REMOVE: Final = 2

DEPTH_MAX: Final = 100
"""Containers within each other (JSON_DOCUMENT_MAX_DEPTH)."""

_LEG: Final = re.compile(
    rb"""\.(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<name>[^."\[\]*\s]+))"""
    rb"""|\[(?:(?P<index>\d{1,10})|last(?:-(?P<back>\d{1,10}))?)\]"""
)


class JsonError(ValueError):
    """Bytes that are no document, or no change of one. Says nothing of the values."""


def patched(document: Tree, changes: bytes, tree_of: Callable[[bytes], Tree]) -> bytes:
    """The text of ``document`` after ``changes``; ``tree_of`` reads binary JSON. ``document`` is
    changed on the way."""
    at = 0
    while at < len(changes):
        operation = changes[at]
        path, at = _counted(changes, at + 1)
        value: Tree = b""
        if operation in (REPLACE, INSERT):
            data, at = _counted(changes, at)
            value = tree_of(data)
        elif operation != REMOVE:
            raise _damaged()
        *legs, last = _legs(path)
        _change(_found(document, legs), last, operation, value)
    pieces: list[bytes] = []
    _write(document, pieces, DEPTH_MAX)
    text = b"".join(pieces)
    try:
        text.decode()
    except UnicodeDecodeError:
        raise _damaged() from None
    return text


def _damaged() -> JsonError:
    return JsonError("the changes of a document are damaged")


def _counted(changes: bytes, at: int) -> tuple[bytes, int]:
    """The bytes behind the length at ``at`` ("Protocol::LengthEncodedInteger"), and their end."""
    if at >= len(changes):
        raise _damaged()
    size, start = changes[at], at + 1
    if size > 250:
        width = {252: 2, 253: 3, 254: 8}.get(size, 0)
        start += width
        size = int.from_bytes(changes[start - width : start], "little")
        if not width:
            raise _damaged()
    if start + size > len(changes):
        raise _damaged()
    return changes[start : start + size], start + size


def _legs(path: bytes) -> list[Leg]:
    """A path's legs, one at least: a member's key, or an array's cell, counted from the end where
    it is negative ("Json_path::to_string" of ``json_path.cc``)."""
    if path[:1] != b"$" or len(path) == 1:
        raise _damaged()
    legs: list[Leg] = []
    at = 1
    while at < len(path):
        leg = _LEG.match(path, at)
        if leg is None:
            raise _damaged()
        quoted, name, index, back = leg.group("quoted", "name", "index", "back")
        if quoted is not None:
            legs.append(_unquoted(quoted))
        elif name is not None:
            legs.append(name)
        else:
            legs.append(int(index) if index is not None else -1 - int(back or 0))
        at = leg.end()
    return legs


def _unquoted(quoted: bytes) -> bytes:
    try:
        return str(json.loads(quoted, strict=False)).encode()
    except ValueError:
        raise _damaged() from None


def _found(tree: Tree, legs: list[Leg]) -> Tree:
    """What is at a path, which must be there."""
    for leg in legs:
        if isinstance(tree, list) and isinstance(leg, int):
            tree = tree[_cell(tree, leg)]
        elif isinstance(tree, dict) and isinstance(leg, bytes) and leg in tree:
            tree = tree[leg]
        else:
            raise _damaged()
    return tree


def _cell(array: list[Tree], leg: int) -> int:
    if not -len(array) <= leg < len(array):
        raise _damaged()
    return leg


def _change(parent: Tree, leg: Leg, operation: int, value: Tree) -> None:
    """An element is inserted before the one that has its index, or as the first or the last if the
    array ends before it."""
    if isinstance(parent, list) and isinstance(leg, int):
        if operation == INSERT:
            parent.insert(leg, value)
        elif operation == REPLACE:
            parent[_cell(parent, leg)] = value
        else:
            del parent[_cell(parent, leg)]
    elif (
        isinstance(parent, dict)
        and isinstance(leg, bytes)
        and (leg in parent) != (operation == INSERT)
    ):
        if operation == REMOVE:
            del parent[leg]
        else:
            parent[leg] = value
    else:
        raise _damaged()


def _write(tree: Tree, pieces: list[bytes], depth: int) -> None:
    """A document in the server's own form, with the keys of objects by length, then bytes."""
    if isinstance(tree, bytes):
        pieces.append(tree)
        return
    if depth == 0:
        raise JsonError("a document is nested too deeply")
    if isinstance(tree, list):
        mark = b"["
        for child in tree:
            pieces.append(mark)
            _write(child, pieces, depth - 1)
            mark = b", "
        pieces.append(b"]" if tree else b"[]")
        return
    mark = b"{"
    for key in sorted(tree, key=lambda key: (len(key), key)):
        pieces += mark, _quoted(key), b": "
        _write(tree[key], pieces, depth - 1)
        mark = b", "
    pieces.append(b"}" if tree else b"{}")


def _quoted(key: bytes) -> bytes:
    try:
        return json.dumps(key.decode(), ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise _damaged() from None
