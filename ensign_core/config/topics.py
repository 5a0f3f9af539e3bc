"""Topic templates: from the names of a table or stream to the name of its topic.

A topic's name is 1 to 512 bytes of letters, digits, ``.``, ``_`` and ``-``. In ``{database}``,
``{schema}`` and ``{table}`` every character but ASCII letters, digits and ``_`` becomes ``-`` and
two lower-case hex digits per UTF-8 byte, ``.`` and ``-`` included, so no two tables share a topic.

``{topic}`` is the name of a Kafka topic or a Kinesis stream. Both allow exactly our own alphabet,
so ``.`` and ``-`` are kept and such a name passes unchanged; whatever else a source may put there
is escaped by the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ensign_core.change import Schema
from ensign_core.errors import EnsignError

TOPIC_BYTES_MAX = 512
VARIABLES = ("database", "schema", "table", "topic")
ROUTE_VARIABLES = ("aggregatetype",)
"""What a template of an outbox may ask for beside those."""

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED = re.compile(r"[^A-Za-z0-9_]")


def template_fault(template: str) -> str | None:
    """What is wrong with a template, as one sentence, or None; whether a source has the names that
    the template asks for is seen only when its first schema comes (`topic_name`)."""
    return route_fault(template, VARIABLES)


def route_fault(template: str, variables: Sequence[str]) -> str | None:
    """The same for a template that may ask for ``variables``; ``column`` among them stands for
    ``{column:NAME}``, a column's value."""
    if not template:
        return "The template is empty."
    for name in _VARIABLE.findall(template):
        kind, _, column = name.partition(":")
        if kind not in variables or (kind == "column") != bool(column):
            return "The template has a name in braces that no source knows."
    literal = _VARIABLE.sub("", template)
    if "{" in literal or "}" in literal:
        return "The template has a brace without its counterpart."
    if _ILLEGAL.search(literal):
        return "The template has a character that a topic's name cannot hold."
    if len(literal) > TOPIC_BYTES_MAX:
        return f"The template is longer than the {TOPIC_BYTES_MAX} bytes of a topic's name."
    return None


def route_columns(template: str) -> list[str]:
    """The columns whose values a template asks for, in their order."""
    names = (name.partition(":") for name in _VARIABLE.findall(template))
    return [column for kind, _, column in names if kind == "column"]


def route_name(
    template: str, schema: Schema, columns: Mapping[str, str], aggregate_type: str = ""
) -> str:
    """The topic that a template of a route or an outbox gives for values of ``columns``, escaped as
    the names of tables are; ``aggregate_type`` keeps its dots and hyphens, as ``{topic}`` does.
    Raises ``config.topic_template`` when the schema lacks a name that is asked for, and
    ``transform.topic_too_long``."""
    names = dict(schema.names)

    def filled(match: re.Match[str]) -> str:
        kind, _, column = match[1].partition(":")
        if kind == "column":
            return _escape(kind, columns[column])
        if kind == "aggregatetype":
            return _escape("topic", aggregate_type)
        if kind not in names:
            raise _not_known(kind, schema)
        return _escape(kind, names[kind])

    name = _VARIABLE.sub(filled, template)
    if not 0 < len(name) <= TOPIC_BYTES_MAX:
        raise EnsignError(
            "transform.topic_too_long",
            f"A route of {schema.name} would have a name of {len(name)} bytes.",
            f"Choose a template and columns that give 1 to {TOPIC_BYTES_MAX} bytes.",
        )
    return name


def topic_name(template: str | None, schema: Schema) -> str:
    """The topic of a schema's events. Called by the ingest loop once per schema, not per event.

    Without a template the schema's names are joined with dots. Raises ``config.topic_template``
    when the schema lacks a name that the template asks for, or the result is too long.
    """
    if template is None:
        name = ".".join(_escape(kind, text) for kind, text in schema.names)
    else:
        names = dict(schema.names)
        for variable in _VARIABLE.findall(template):
            if variable not in names:
                raise _not_known(variable, schema)
        name = _VARIABLE.sub(lambda match: _escape(match[1], names[match[1]]), template)
    if not 0 < len(name) <= TOPIC_BYTES_MAX:
        raise _fault(
            f"The topic of {schema.name} would have a name of {len(name)} bytes.",
            f"Choose a template that gives 1 to {TOPIC_BYTES_MAX} bytes.",
        )
    return name


def _escape(kind: str, text: str) -> str:
    return (_ILLEGAL if kind == "topic" else _ESCAPED).sub(_hex, text)


def _hex(match: re.Match[str]) -> str:
    return "".join(f"-{byte:02x}" for byte in match[0].encode())


def _not_known(variable: str, schema: Schema) -> EnsignError:
    known = ", ".join(f"{{{kind}}}" for kind, _ in schema.names)
    return _fault(
        f"The topic template asks for {{{variable}}}, which {schema.name} has not.",
        f"Use what this source knows: {known}.",
    )


def _fault(sentence: str, remedy: str) -> EnsignError:
    return EnsignError("config.topic_template", sentence, remedy)
