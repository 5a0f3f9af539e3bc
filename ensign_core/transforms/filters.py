"""``filter``: a condition compiled for a schema, and evaluated column by column.

Each operation works on lists with a value per event, so that no step of Python is taken per event
and operation but in comprehensions. Logic is three-valued; a value that is not known (an unchanged
one whose old image is not there, a column that an old image of the key lacks) is null, but an event
whose condition is null for that reason is kept: nothing is lost on a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

from ensign_core.change import Batch, Op, Schema
from ensign_core.config.conditions import Term, condition
from ensign_core.config.transforms import FilterConfig
from ensign_core.errors import EnsignError
from ensign_core.rows import edit
from ensign_core.transforms import operations
from ensign_core.transforms.pieces import events_by_schema
from ensign_core.transforms.transform import Transform, key_only, unknown_column
from ensign_core.transforms.typed import Kind, moment, type_of

Values = list[Any]

STRUCTURE = frozenset({Op.SCHEMA, Op.BEGIN, Op.COMMIT})
"""Events that no filter takes out."""

_NAMES = ("_database", "_schema", "_table", "_topic")
_OPS = [op.name.lower() for op in Op]


class Rows:
    """The events of one schema in a batch, and the columns looked at so far."""

    def __init__(
        self, batch: Batch, schema_id: int, events: Sequence[int], *, old_first: bool
    ) -> None:
        self.batch = batch
        self.schema_id = schema_id
        self.events = events
        self.unknown: set[int] = set()
        self._old_first = old_first
        self._columns: dict[int, tuple[Values, set[int]]] = {}

    def column(self, schema: Schema, place: int) -> tuple[Values, set[int]]:
        """The values of a column, and the places where they are not known."""
        found = self._columns.get(place)
        if found is None:
            batch, column = self.batch, schema.columns[place]
            values, unknown = edit.column(
                batch.body, batch.ends, batch.schema_ids, self.schema_id, len(schema.columns),
                place, column.key, self._old_first, type_of(column).convert,
            )  # fmt: skip
            found = self._columns[place] = values, set(unknown)
            self.unknown |= found[1]
        return found

    def missing(self) -> Values:
        """The values of a column that the schema lacks: none of them is known."""
        self.unknown.update(range(len(self.events)))
        return [None] * len(self.events)

    def name(self, name: str) -> str | None:
        """``_topic`` and the like."""
        names = dict(self.batch.schemas[self.schema_id].names)
        if name == "_topic":
            routes = self.batch.routes
            chosen = routes[self.schema_id] if routes else ""
            return chosen or self.batch.topic or names.get("topic")
        return names.get(name[1:])


Evaluate = Callable[[Rows], Values]


class Typed(NamedTuple):
    """A compiled term. ``constant`` has the one value of a constant."""

    kind: Kind
    values: Evaluate
    ordered: bool = True
    constant: tuple[object] | None = None


class Filter(Transform[Evaluate]):
    """``filter``."""

    def __init__(self, config: FilterConfig) -> None:
        super().__init__(config)
        self._term = condition(config.where)
        self._image = config.image

    def plan(self, schema: Schema) -> Evaluate:
        typed = _Compiler(schema).typed(self._term)
        if typed.kind not in ("boolean", "null"):
            raise _mismatch(schema, "is not true or false")
        return typed.values

    def apply(self, batch: Batch, plans: Sequence[Evaluate | None]) -> Batch:
        ops = bytearray(batch.ops)
        for schema_id, events in events_by_schema(batch, plans).items():
            evaluate = plans[schema_id]
            assert evaluate is not None
            places = _failing(evaluate, batch, schema_id, events, old_first=self._image == "old")
            if self._image == "either" and places:
                old = _failing(evaluate, batch, schema_id, events, old_first=True)
                places = sorted(set(places).intersection(old))
            for place in places:
                index = events[place]
                if ops[index] not in STRUCTURE:
                    ops[index] = Op.REMOVED
        return replace(batch, ops=bytes(ops))


def _failing(
    evaluate: Evaluate, batch: Batch, schema_id: int, events: Sequence[int], *, old_first: bool
) -> list[int]:
    """The places in ``events`` of those that do not meet the condition."""
    rows = Rows(batch, schema_id, events, old_first=old_first)
    found = evaluate(rows)
    unknown = rows.unknown
    if not unknown:
        return [place for place, value in enumerate(found) if not value]
    return [
        place
        for place, value in enumerate(found)
        if value is False or (value is None and place not in unknown)
    ]


class _Compiler:
    """Compiles terms for the columns of a schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._places = {column.name: place for place, column in enumerate(schema.columns)}

    def typed(self, term: Term) -> Typed:
        match term.op:
            case "column":
                return self._column(term.name)
            case "constant":
                return _constant(term.value)
            case "and" | "or":
                combine = operations.both if term.op == "and" else operations.any_of
                left, right = (self._logical(part) for part in term.of)
                return Typed("boolean", lambda rows: combine(left(rows), right(rows)))
            case "not":
                inner = self._logical(term.of[0])
                return Typed("boolean", lambda rows: operations.negated(inner(rows)))
            case "is":
                return self._is(term)
            case "in":
                return self._in(term)
            case "like" | "ilike":
                return self._like(term)
            case "add" | "sub" | "mul" | "mod" | "neg":
                return self._arithmetic(term)
        return self._compared(term.op, *(self.typed(part) for part in term.of))

    def _column(self, name: str) -> Typed:
        schema, place = self._schema, self._places.get(name)
        if place is not None:
            known = type_of(schema.columns[place])
            return Typed(known.kind, lambda rows: rows.column(schema, place)[0], known.ordered)
        if name == "_op":
            return Typed(
                "text", lambda rows: [_OPS[rows.batch.ops[index]] for index in rows.events]
            )
        if name in _NAMES:
            return Typed("text", lambda rows: [rows.name(name)] * len(rows.events))
        if key_only(schema):
            return Typed("null", Rows.missing)
        raise unknown_column(name, schema)

    def _logical(self, term: Term) -> Evaluate:
        typed = self.typed(term)
        if typed.kind not in ("boolean", "null"):
            raise _mismatch(self._schema, "has something that is not true or false in AND, OR, NOT")
        return typed.values

    def _unified(self, left: Typed, right: Typed) -> tuple[Typed, Typed]:
        """Both of one kind: a text that is a constant becomes what it is compared with."""
        if left.kind == right.kind or "null" in (left.kind, right.kind):
            return left, right
        if left.constant is not None and left.kind == "text":
            return self._converted(left, right.kind), right
        if right.constant is not None and right.kind == "text":
            return left, self._converted(right, left.kind)
        raise _mismatch(self._schema, f"compares a {left.kind} with a {right.kind}")

    def _converted(self, typed: Typed, kind: Kind) -> Typed:
        assert typed.constant is not None
        text = str(typed.constant[0])
        if kind == "uuid":
            return _constant(text.lower())._replace(kind=kind)
        if kind == "moment":
            try:
                value = moment(text)
            except ValueError:
                raise _mismatch(
                    self._schema, "compares a moment with a text that is none in ISO and UTC"
                ) from None
            return _constant(value)._replace(kind=kind)
        raise _mismatch(self._schema, f"compares a {kind} with a text")

    def _compared(self, op: str, left: Typed, right: Typed) -> Typed:
        left, right = self._unified(left, right)
        if op not in ("eq", "ne") and not (left.ordered and right.ordered):
            raise _mismatch(self._schema, "orders values of a type that has no order here")
        compare = operations.COMPARISONS[op]
        return Typed("boolean", lambda rows: compare(left.values(rows), right.values(rows)))

    def _in(self, term: Term) -> Typed:
        value, *items = (self.typed(part) for part in term.of)
        pairs = [self._unified(value, item) for item in items]
        if any(one.constant is None for _, one in pairs) or any(
            one is not value for one, _ in pairs
        ):
            parts = [self._compared("eq", value, item).values for item in items]
            return Typed(
                "boolean",
                lambda rows: reduce(operations.any_of, (part(rows) for part in parts)),
            )
        listed = {one.constant[0] for _, one in pairs if one.constant is not None}
        null = None in listed
        among = frozenset(listed - {None})
        return Typed("boolean", lambda rows: operations.within(value.values(rows), among, null))

    def _like(self, term: Term) -> Typed:
        value = self.typed(term.of[0])
        if value.kind not in ("text", "uuid", "null"):
            raise _mismatch(self._schema, f"uses LIKE on a {value.kind}")
        escape = str(term.of[2].value) if len(term.of) > 2 else "\\"
        pattern = operations.like(str(term.of[1].value), escape, fold=term.op == "ilike")
        return Typed("boolean", lambda rows: operations.matched(value.values(rows), pattern))

    def _is(self, term: Term) -> Typed:
        value, wanted = self.typed(term.of[0]), term.of[1].value
        if wanted is not None and value.kind not in ("boolean", "null"):
            raise _mismatch(self._schema, f"asks whether a {value.kind} is true or false")
        names = set(term.columns())
        places = {self._places[name] for name in names if name in self._places}
        lacking = not names.issubset((*self._places, *_NAMES, "_op"))
        schema = self._schema

        def evaluate(rows: Rows) -> Values:
            if lacking:
                return rows.missing()
            found = [one is wanted for one in value.values(rows)]
            unknown = set().union(*(rows.column(schema, place)[1] for place in places))
            for place in unknown:
                # It may be a value or none.
                found[place] = None  # type: ignore[call-overload]  # a list of three values
            return found

        return Typed("boolean", evaluate)

    def _arithmetic(self, term: Term) -> Typed:
        parts = [self.typed(part) for part in term.of]
        if any(part.kind not in ("number", "null") for part in parts):
            raise _mismatch(self._schema, "calculates with something else than numbers")
        if term.op == "neg":
            parts.insert(0, _constant(0))
        calculate = operations.ARITHMETIC["sub" if term.op == "neg" else term.op]
        left, right = (part.values for part in parts)
        values: Evaluate = lambda rows: operations.calculated(calculate, left(rows), right(rows))  # noqa: E731
        if all(part.constant is not None for part in parts):
            one = operations.calculated(calculate, *([part.constant[0]] for part in parts))[0]  # type: ignore[index]  # looked at just before
            return _constant(one)
        return Typed("number", values)


def _constant(value: Any) -> Typed:
    kind: Kind = (
        "null" if value is None
        else "boolean" if isinstance(value, bool)
        else "text" if isinstance(value, str)
        else "number"
    )  # fmt: skip
    return Typed(kind, lambda rows: [value] * len(rows.events), constant=(value,))


def _mismatch(schema: Schema, what: str) -> EnsignError:
    return EnsignError(
        "transform.type_mismatch",
        f"The condition of a filter {what}, with the columns of {schema.name}.",
        "Compare numbers with numbers, text with 'text', dates with 'YYYY-MM-DD'; say with "
        "`tables` which tables the filter is meant for.",
    )
