"""Records of JSON objects as rows: each member is a column, exactly.

- A string is text, a number without fraction and exponent ``int``, any other ``float``, both with
  the very text that the record has; objects and arrays are ``json`` with theirs, so is a string
  that is no Unicode (half of a surrogate pair). A null has the kind that the column had last in its
  topic, or text.
- The members of a key that is a JSON object are the key's columns; those that the value lacks stand
  behind its own. Where both have one, they must agree (``decode.key_differs``). Any other key is
  the key's column ``_key``: text, or bytes if it is not UTF-8. Without a key there is none.
- Each record is an insert, for nobody knows what was there before. One without value is the delete
  of its key. One without both is refused (``decode.no_value``).
- Two members of one name are refused, since readers of JSON differ in which one counts; inside
  objects and arrays, which stay text, they are kept. NaN is no JSON.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ensign_core.change import Column, Logical, Op, Schema
from ensign_core.formats.records import Members, Row, fault, members_of, members_or_none
from ensign_core.rows import join

KEY_COLUMN: Final = "_key"

TOPICS_MAX: Final = 4096
LAYOUTS_MAX: Final = 1024
NAMES_MAX: Final = 65_535
"""What a decoder remembers: topics, shapes of records per topic, and names per topic, of which a
row can have as many."""

_NULL: Final = b"n"[0]
_STRING: Final = b"s"[0]
_TYPES: Final[dict[int, tuple[str, Logical]]] = {
    b"s"[0]: ("string", "text"),
    b"i"[0]: ("integer", "int"),
    b"f"[0]: ("number", "float"),
    b"b"[0]: ("boolean", "bool"),
    b"{"[0]: ("json", "json"),
    b"["[0]: ("json", "json"),
    b"S"[0]: ("json", "json"),
    b"x"[0]: ("bytes", "bytes"),
}
"""By the kind of a member; ``x`` is a key that is not UTF-8."""

_ROW_KINDS: Final = bytes(
    b"n"[0] if kind == _NULL else b"b"[0] if kind == b"x"[0] else b"t"[0] for kind in range(256)
)
"""To the kinds of the row layout."""

_NO_KEY: Final[Members] = ((), b"", [])


class _Layout(NamedTuple):
    """What all records of one shape have in common. ``added`` are the places in the key of what the
    value lacks, ``shared`` pairs of places, in key and value, of what both have."""

    schema: Schema
    key: tuple[tuple[str, ...], bytes]
    added: tuple[int, ...]
    shared: tuple[tuple[int, int], ...]


class Kinds:
    """The kind that each column of one topic had last."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def known(self, names: tuple[str, ...], kinds: bytes) -> bytes:
        """``kinds`` with the last ones in place of nulls."""
        if _NULL not in kinds:
            return kinds
        last = self._last.get
        return bytes(
            last(name, _STRING) if kind == _NULL else kind
            for name, kind in zip(names, kinds, strict=True)
        )

    def keep(self, names: tuple[str, ...], kinds: bytes) -> None:
        if len(self._last) > NAMES_MAX:
            self._last.clear()
        self._last.update(zip(names, kinds, strict=True))


class _Topic:
    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.kinds = Kinds()
        self.layouts: dict[object, _Layout] = {}
        self.last: _Layout | None = None

    def layout(self, value: Members, key: Members) -> _Layout:
        """The layout of a record, of which it then counts as the last."""
        kinds = self.kinds.known(value[0], value[1])
        key_kinds = self.kinds.known(key[0], key[1])
        shape = value[0], kinds, key[0], key_kinds
        layout = self.layouts.get(shape)
        if layout is None:
            layout = self._add(shape)
        if layout is not self.last:
            self.kinds.keep(key[0], key_kinds)
            self.kinds.keep(value[0], kinds)
            self.last = layout
        return layout

    def _add(self, shape: tuple[tuple[str, ...], bytes, tuple[str, ...], bytes]) -> _Layout:
        names, kinds, key_names, key_kinds = shape
        places = {name: place for place, name in enumerate(names)}
        if key_names == (KEY_COLUMN,) and KEY_COLUMN in places:
            raise fault("name_taken")
        in_key = frozenset(key_names)
        added = tuple(i for i, name in enumerate(key_names) if name not in places)
        if len(names) + len(added) > NAMES_MAX:
            raise fault("too_many_columns")
        columns = [_column(n, k, key=n in in_key) for n, k in zip(names, kinds, strict=True)]
        columns += [_column(key_names[i], key_kinds[i], key=True) for i in added]
        if len(self.layouts) >= LAYOUTS_MAX:
            self.layouts.clear()
        layout = self.layouts[shape] = _Layout(
            Schema(self.topic, (("topic", self.topic),), tuple(columns)),
            (key_names, key_kinds),
            added,
            tuple((i, places[name]) for i, name in enumerate(key_names) if name in places),
        )
        return layout


def _column(name: str, kind: int, *, key: bool) -> Column:
    native, logical = _TYPES[kind]
    return Column(name, native, logical, key=key)


class JsonDecoder:
    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def row(self, topic: str, key: bytes | None, value: bytes | None) -> Row | None:
        state = self._topics.get(topic) or self._add(topic)
        of_key = _NO_KEY if key is None else _key_members(key)
        if value is None:
            if key is None:
                raise fault("no_value")
            return _gone(state, of_key)
        found = members_of(value)
        layout = state.layout(found, of_key)
        _, kinds, values = found
        for place, other in layout.shared:
            if of_key[1][place] != kinds[other] or of_key[2][place] != values[other]:
                raise fault("key_differs")
        if layout.added:
            kinds += bytes(of_key[1][place] for place in layout.added)
            values += [of_key[2][place] for place in layout.added]
        body = b"N" + join(kinds.translate(_ROW_KINDS), values)
        return Row(Op.INSERT, layout.schema, body, None, 0)

    def _add(self, topic: str) -> _Topic:
        if len(self._topics) >= TOPICS_MAX:
            self._topics.clear()
        state = self._topics[topic] = _Topic(topic)
        return state


def _key_members(key: bytes) -> Members:
    found = members_or_none(key)
    if found is not None and found[0]:
        return found
    try:
        key.decode()
    except UnicodeDecodeError:
        return (KEY_COLUMN,), b"x", [key]
    return (KEY_COLUMN,), b"s", [key]


def _gone(state: _Topic, key: Members) -> Row:
    """The delete of a key: as a row of the schema that the topic had last, if it has that key, else
    of one of the key's columns alone."""
    names, kinds, values = key
    layout = state.last
    if layout is None or layout.key != (names, state.kinds.known(names, kinds)):
        layout = state.layout(((), b"", []), key)
    row_kinds = bytearray(b"n" * len(layout.schema.columns))
    row_values = [b""] * len(row_kinds)
    found = dict(zip(names, zip(kinds.translate(_ROW_KINDS), values, strict=True), strict=True))
    for place, column in enumerate(layout.schema.columns):
        if column.name in found:
            row_kinds[place], row_values[place] = found[column.name]
    return Row(Op.DELETE, layout.schema, b"K" + join(bytes(row_kinds), row_values), None, 0)
