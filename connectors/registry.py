"""Where connectors are found: ours by one line in a table, others by an entry point.

A third party's package declares an entry point in the group ``ensign.connectors`` whose name is
``source.NAME`` or ``sink.NAME`` and whose object is a `Connector`. A name of ours cannot be taken
over. Nothing is imported before a config names it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, ParamSpec, TypeVar

from ensign_core.errors import EnsignError
from ensign_core.plugin import Connector

Kind = Literal["source", "sink"]
P = ParamSpec("P")
R = TypeVar("R")

GROUP = "ensign.connectors"

OURS: Final[dict[tuple[Kind, str], str]] = {
    ("source", "postgres"): "connectors.postgres:CONNECTOR",
    ("source", "mysql"): "connectors.mysql:CONNECTOR",
    ("source", "kafka"): "connectors.kafka:SOURCE",
    ("source", "generator"): "connectors.generator:CONNECTOR",
    ("source", "ensign"): "connectors.ensign:CONNECTOR",
    ("source", "file"): "connectors.file:SOURCE",
    ("sink", "file"): "connectors.file:SINK",
    ("sink", "kafka"): "connectors.kafka:SINK",
    ("source", "kinesis"): "connectors.kinesis:SOURCE",
    ("sink", "kinesis"): "connectors.kinesis:SINK",
    ("sink", "stdout"): "connectors.stdout:CONNECTOR",
}


def connector(kind: Kind, name: str) -> Connector[Any]:
    """The connector of that name, imported now. Its functions raise ``connector.driver_missing``
    where its driver is not installed. Raises ``config.unknown_connector``, and
    ``connector.invalid`` for an entry point that does not give a connector."""
    ours = OURS.get((kind, name))
    theirs = None if ours else _entry_points(kind).get(name)
    if ours is None and theirs is None:
        raise EnsignError(
            "config.unknown_connector",
            f"There is no {kind} of that type.",
            f"The known types are: {', '.join(names(kind))}.",
        )
    package = name if ours else theirs.dist.name if theirs and theirs.dist else name
    install = f'pip install "ensign[{name}]"' if ours else f'pip install "{package}"'
    found = _driven(lambda: _load(ours) if ours else theirs and theirs.load(), name, install)()
    if not isinstance(found, Connector) or (found.kind, found.name) != (kind, name):
        raise EnsignError(
            "connector.invalid",
            f"The entry point {kind}.{name} of {package} gives no {kind} of that name.",
            f"Update or remove {package}.",
        )
    return replace(
        found,
        make=_driven(found.make, name, install),
        check=_driven(found.check, name, install),
        drop=_driven(found.drop, name, install),
    )


def names(kind: Kind) -> list[str]:
    """The names of all connectors of a kind, sorted; imports none of them."""
    return sorted({name for of, name in OURS if of == kind} | _entry_points(kind).keys())


def _entry_points(kind: Kind) -> dict[str, EntryPoint]:
    prefix = f"{kind}."
    found = entry_points(group=GROUP)
    return {e.name.removeprefix(prefix): e for e in found if e.name.startswith(prefix)}


def _load(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _driven(call: Callable[P, R], name: str, install: str) -> Callable[P, R]:
    """``call``, with a missing driver as an error that says how to install it. Connectors import
    their driver when they are made, so that a config can be read without it."""

    @wraps(call)
    def driven(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("ensign_core", "connectors"):
                raise
            raise EnsignError(
                "connector.driver_missing",
                f"The connector {name} needs the Python package {error.name}, which is not here.",
                f"Run: {install}",
            ) from None

    return driven
