"""The tables of options in the connectors' and the transforms' READMEs, made from their models.

``python -m tests.conformance.options`` writes them anew. In a README a table stands between two
comments, ``<!-- options: source.NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Container
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from connectors.registry import Kind, connector
from ensign_core.config.transforms import AnyTransform, TransformConfig

ROOT = Path(__file__).parents[2]
CONNECTORS = ROOT / "connectors"
TRANSFORMS = ROOT / "ensign_core" / "transforms" / "README.md"
PLACE = re.compile(
    r"(<!-- options: (source|sink|transform)\.([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL
)


def options_table(model: type[BaseModel], inherited: Container[str] = ()) -> str:
    """A Markdown table of a model's options but ``type``, in their order."""
    lines = ["| option | type | default | what it does |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_cell(field)} |"
        for name, field in model.model_fields.items()
        if name != "type" and name not in inherited
    ]
    return "\n".join(lines) + "\n"


def _type(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by {_type(arguments[0])}"
    if origin is typing.Annotated:
        return _type(arguments[0])
    if annotation is SecretStr:
        return "secret text"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(typing.cast(type, annotation), getattr(annotation, "__name__", "object"))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list | tuple):
        return f"`[{', '.join(map(str, default))}]`"
    if isinstance(default, BaseModel):
        given = default.model_dump(exclude_none=True)
        return "`{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}`"
    return f"`{default}`"


def _cell(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|").replace("\n", " ")


def _transform_table(name: str) -> str:
    if name == "all":
        return options_table(TransformConfig)
    (model,) = (
        model
        for model in typing.get_args(typing.get_args(AnyTransform)[0])
        if model.model_fields["type"].annotation == typing.Literal[name]
    )
    # An outbox has tables of its own.
    inherited = set(TransformConfig.model_fields) - ({"tables"} if name == "outbox" else set())
    return options_table(model, inherited)


def with_tables(text: str) -> str:
    """A README's text with its tables as they should be."""

    def table(match: re.Match[str]) -> str:
        if match[2] == "transform":
            return f"{match[1]}{_transform_table(match[3])}{match[4]}"
        kind = typing.cast(Kind, match[2])
        return f"{match[1]}{options_table(connector(kind, match[3]).config)}{match[4]}"

    return PLACE.sub(table, text)


def readmes() -> list[Path]:
    return [*sorted(CONNECTORS.glob("*/README.md")), TRANSFORMS]


if __name__ == "__main__":
    for path in readmes():
        path.write_text(with_tables(path.read_text()))
