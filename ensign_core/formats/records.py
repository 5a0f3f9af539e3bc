"""What a record of another broker becomes when it is decoded: a row, or a fault with a code."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from ensign_core.change import Op, Schema, Tx
from ensign_core.errors import EnsignError
from ensign_core.rows import members

Members = tuple[tuple[str, ...], bytes, list[bytes]]
"""An object's names, kinds and texts, as `ensign_core.rows.members` gives them."""


class Row(NamedTuple):
    """One event: ``body`` is its images as they lie in a batch, ``ordinal`` the row's place in its
    transaction as far as the record says it, else 0."""

    op: Op
    schema: Schema
    body: bytes
    tx: Tx | None
    ordinal: int


class Decoder(Protocol):
    """Turns the records of topics into rows. It remembers the schemas and kinds of columns that it
    saw, so a source makes one and uses it from one thread (I1)."""

    def row(self, topic: str, key: bytes | None, value: bytes | None) -> Row | None:
        """The row of one record; None where there is nothing to store. Raises ``decode.*`` for a
        record that is none of the format, and nothing else, whatever its bytes."""


_FAULTS: Final = {
    "not_json": "is not JSON in UTF-8",
    "not_an_object": "is JSON, but no object",
    "not_unicode": "has a member whose name is no Unicode",
    "too_deep": f"has more than {members.DEPTH_MAX} arrays and objects in each other",
    "duplicate_member": "has two members of one name",
    "too_many_columns": "has more members than a row can have columns",
    "key_differs": "has other values in its key than in the row",
    "name_taken": "has a key that is no object, and a member named as the key's column would be",
    "no_value": "has neither a key nor a value",
    "not_debezium": "is no change event of Debezium",
    "not_of_its_type": "has a value that its own schema does not allow",
}
_REMEDY: Final = (
    "Repair its producer, then replay or drop the dead letter; a topic of such records needs "
    "another `decode`."
)


def fault(code: str) -> EnsignError:
    """The error ``decode.CODE`` for one record."""
    return EnsignError(f"decode.{code}", f"A record {_FAULTS[code]}.", _REMEDY)


def members_of(data: bytes) -> Members:
    """The members of an object, each name once. Raises ``decode.*``."""
    found = _taken_apart(data)
    if found is None:
        raise fault("not_an_object")
    return distinct(found)


def members_or_none(data: bytes) -> Members | None:
    """The same; None for what is no JSON object."""
    try:
        found = _taken_apart(data)
    except EnsignError:
        return None
    return None if found is None else distinct(found)


def distinct(found: Members) -> Members:
    if len(set(found[0])) != len(found[0]):
        raise fault("duplicate_member")
    return found


def _taken_apart(data: bytes) -> Members | None:
    try:
        return members.members(data)
    except UnicodeError:
        raise fault("not_unicode") from None
    except ValueError:
        raise fault("not_json") from None
    except RecursionError:
        raise fault("too_deep") from None
