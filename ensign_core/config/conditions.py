"""The condition of a ``filter``: from its SQL to terms that nothing but this small language is in.

sqlglot parses; what is taken over is listed here, term by term, and all else is refused when the
config is read, with the place in the text and never the text itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, NamedTuple

from ensign_core.errors import EnsignError

if TYPE_CHECKING:
    from sqlglot import exp

Constant = str | int | Decimal | bool | None
CONDITION_CHARS_MAX = 100_000


class Term(NamedTuple):
    """A node of a condition. ``op`` is ``column`` (``name``), ``constant`` (``value``), or an
    operation on ``of``: ``and or not``, ``eq ne lt le gt ge``, ``in`` (the first in the others),
    ``like ilike`` (a pattern of constant text, and the escape character), ``is`` (null or a
    boolean), ``add sub mul mod neg``."""

    op: str
    of: tuple[Term, ...] = ()
    name: str = ""
    value: Constant = None

    def columns(self) -> Iterator[str]:
        """The names of all columns in it, as often as they are there."""
        if self.op == "column":
            yield self.name
        for term in self.of:
            yield from term.columns()


def condition(text: str) -> Term:
    """The terms of a condition. Called when the config is read, and when a filter is made. Raises
    ``config.condition``."""
    # Half a second of imports is for those only who have a condition.
    import sqlglot
    from sqlglot import errors, exp

    if len(text) > CONDITION_CHARS_MAX:
        raise _fault("It is too long", "Write a shorter one.")
    try:
        parsed = sqlglot.parse_one(text, into=exp.Condition)
    except errors.ParseError as error:
        at = error.errors[0].get("col") if error.errors else None
        where = f" near character {at}" if at else ""
        raise _fault(f"It is not a condition in SQL{where}", _REMEDY) from None
    except errors.SqlglotError:
        raise _fault("It is not a condition in SQL", _REMEDY) from None
    except RecursionError:
        raise _fault("It is nested too deeply", "Write a flatter one.") from None
    try:
        term = _Terms().of(parsed)
    except RecursionError:
        raise _fault("It is nested too deeply", "Write a flatter one.") from None
    _check(term)
    return term


_REMEDY: Final = (
    "Use columns, numbers, 'text', comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL and + - * "
    "%, such as: amount > 10 AND status <> 'new'."
)


def _fault(what: str, remedy: str) -> EnsignError:
    return EnsignError("config.condition", f"The condition cannot be used: {what}.", remedy)


_OPERATIONS: Final = {
    "And": "and", "Or": "or", "Not": "not", "EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le",
    "GT": "gt", "GTE": "ge", "Add": "add", "Sub": "sub", "Mul": "mul", "Mod": "mod", "Neg": "neg",
    "Like": "like", "ILike": "ilike",
}  # fmt: skip
_ARGUMENTS: Final = frozenset({"this", "expression", "negate"})


class _Terms:
    """Turns sqlglot's nodes into terms; what has no method or argument here is refused."""

    def of(self, node: exp.Expr) -> Term:
        name = type(node).__name__
        given = {key for key, value in node.args.items() if value not in (None, False, [])}
        if name in _OPERATIONS and given <= _ARGUMENTS:
            parts = tuple(self.of(node.args[key]) for key in ("this", "expression") if key in given)
            return self._negated(node, Term(_OPERATIONS[name], parts))
        special: dict[str, Callable[[exp.Expr], Term]] = {
            "Paren": lambda found: self.of(found.this), "Column": self._column,
            "Literal": self._literal, "Boolean": lambda found: Term("constant", value=found.this),
            "Null": lambda _: Term("constant"), "In": self._in, "Between": self._between,
            "Is": self._is, "Escape": self._escape,
        }  # fmt: skip
        if name not in special:
            kind = getattr(node, "key", name).upper()
            raise _fault(f"{kind} is not part of the language of conditions", _REMEDY)
        return special[name](node)

    def _negated(self, node: exp.Expr, term: Term) -> Term:
        return Term("not", (term,)) if node.args.get("negate") else term

    def _column(self, node: exp.Expr) -> Term:
        if node.args.get("table") or type(node.this).__name__ != "Identifier":
            raise _fault("A column has a table before its name", "Write the column's name alone.")
        return Term("column", name=str(node.name))

    def _literal(self, node: exp.Expr) -> Term:
        text = str(node.this)
        if node.args.get("is_string"):
            return Term("constant", value=text)
        try:
            return Term("constant", value=int(text) if text.isdigit() else Decimal(text))
        except (InvalidOperation, ValueError):
            raise _fault("A number in it is none", "Write it as 10 or 10.5.") from None

    def _in(self, node: exp.Expr) -> Term:
        items = node.args.get("expressions") or ()
        if not items or any(node.args.get(key) for key in ("query", "unnest", "field")):
            raise _fault("IN has no list", "Write it as: status IN ('a', 'b').")
        found = Term("in", (self.of(node.this), *map(self.of, items)))
        return self._negated(node, found)

    def _between(self, node: exp.Expr) -> Term:
        if node.args.get("symmetric"):
            raise _fault("BETWEEN SYMMETRIC is not part of the language of conditions", _REMEDY)
        value = self.of(node.this)
        low, high = self.of(node.args["low"]), self.of(node.args["high"])
        found = Term("and", (Term("ge", (value, low)), Term("le", (value, high))))
        return self._negated(node, found)

    def _is(self, node: exp.Expr) -> Term:
        found = Term("is", (self.of(node.this), self.of(node.args["expression"])))
        return self._negated(node, found)

    def _escape(self, node: exp.Expr) -> Term:
        like, escape = self.of(node.this), self.of(node.args["expression"])
        inner = like.of[0] if like.op == "not" else like
        if inner.op not in ("like", "ilike") or len(inner.of) != 2:
            raise _fault("ESCAPE follows no LIKE", _REMEDY)
        escaped = Term(inner.op, (*inner.of, escape))
        return Term("not", (escaped,)) if like.op == "not" else escaped


def _check(term: Term) -> None:
    """What is wrong with the terms whatever the columns are."""
    if term.op in ("like", "ilike"):
        for part in term.of[1:]:
            if part.op != "constant" or not isinstance(part.value, str):
                raise _fault("LIKE has a pattern that is no text", "Write it as: name LIKE 'a%'.")
        if len(term.of) == 3 and len(str(term.of[2].value)) != 1:
            raise _fault("ESCAPE is not one character", "Write it as: name LIKE 'a!%' ESCAPE '!'.")
    if term.op == "is":
        value = term.of[1]
        if value.op != "constant" or not (value.value is None or isinstance(value.value, bool)):
            raise _fault("IS compares with something else than NULL, TRUE or FALSE", _REMEDY)
    for part in term.of:
        _check(part)
