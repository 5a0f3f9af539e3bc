"""From the file to a `Config`: parse, put in the variables, validate each connector's options by
the connector's own model, then the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from ensign_core.config.document import parse
from ensign_core.config.findings import Findings, Place
from ensign_core.config.model import Config, SinkEntry, SourceEntry
from ensign_core.config.variables import expand
from ensign_core.errors import EnsignError
from ensign_core.plugin import Connector

Find = Callable[[Literal["source", "sink"], str], Connector[Any]]
"""The connectors' registry: raises an `EnsignError` for a type that it does not know. It is given
by the caller, since nothing below the command line imports connectors."""


def load(path: Path, find: Find) -> Config:
    """The config in the file ``path``. Called once by each command that takes a config.

    Opens nothing but the file and what ``${file:PATH}`` names. A key without a value counts as not
    written. Raises `ConfigErrors`, which names everything that is wrong and holds no value.
    """
    findings = Findings(path)
    value = parse(path, findings)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        sentence = "The file is not a mapping of sections."
        findings.add((), "config.not_a_mapping", sentence, "Start with `pipelines:`.")
        raise findings.errors()
    value = _Reading(findings, find).sections(_expanded(value, (), findings))
    try:
        config = Config.model_validate(value)
    except ValidationError as error:
        findings.add_invalid(error, Config, value)
        raise findings.errors() from None
    if findings:
        raise findings.errors()
    return config


def _expanded(value: Any, place: Place, findings: Findings) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, (*place, key), findings) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, (*place, at), findings) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return expand(value)
    except EnsignError as error:
        findings.add(place, error.code, error.sentence, error.remedy)
        return value


def _given(value: Any) -> Any:
    """A mapping without the keys that have no value; anything else as it is."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if item is not None}
    return value


Entry = TypeVar("Entry", bound=BaseModel)


def _blank(entry: type[Entry]) -> Entry:
    return entry.model_construct()


class _Reading:
    """One file's entries of connectors, replaced by validated ones. An entry that has errors is
    replaced by an empty one, so that the rest of the file is still looked at."""

    def __init__(self, findings: Findings, find: Find) -> None:
        self._findings = findings
        self._find = find

    def sections(self, value: dict[str, Any]) -> dict[str, Any]:
        sections: dict[str, Any] = {key: _given(item) for key, item in value.items()}
        # A section without a value is left out, but a pipeline or a sink is not: it was named.
        sections = {key: item for key, item in sections.items() if item is not None}
        pipelines = value.get("pipelines")
        if isinstance(pipelines, dict):
            sections["pipelines"] = {
                name: self._pipeline({} if item is None else item, ("pipelines", name))
                for name, item in pipelines.items()
            }
        return sections

    def _pipeline(self, value: Any, place: Place) -> Any:
        if not isinstance(value, dict):
            return value
        pipeline = _given(value)
        if "source" in pipeline:
            pipeline["source"] = self._source(pipeline["source"], (*place, "source"))
        sinks = pipeline.get("sinks")
        if isinstance(sinks, dict):
            pipeline["sinks"] = {
                name: self._sink({} if item is None else item, (*place, "sinks", name))
                for name, item in sinks.items()
            }
        return pipeline

    def _source(self, value: Any, place: Place) -> SourceEntry:
        found = self._connector("source", value, place)
        if found is None:
            return _blank(SourceEntry)
        connector, options = found
        return SourceEntry(connector=connector, config=options)

    def _sink(self, value: Any, place: Place) -> SinkEntry:
        own = {}
        if isinstance(value, dict):
            own = {
                key: value[key] for key in ("from", "transforms", "skip_revoked") if key in value
            }
            value = {key: item for key, item in value.items() if key not in own}
        found = self._connector("sink", value, place)
        if found is None:
            return _blank(SinkEntry)
        entry = {"connector": found[0], "config": found[1], **_given(own)}
        try:
            return SinkEntry.model_validate(entry)
        except ValidationError as error:
            self._findings.add_invalid(error, SinkEntry, entry, place)
            return _blank(SinkEntry)

    def _connector(self, kind: Literal["source", "sink"], value: Any, place: Place) -> Any:
        """The connector and its validated options, or None with the reason among the findings."""
        if not isinstance(value, dict):
            sentence = f"A {kind} is a mapping with the key `type` and the connector's options."
            self._findings.add(place, "config.wrong_type", sentence, "Write it as a mapping.")
            return None
        options = _given(value)
        name = options.get("type")
        if not isinstance(name, str):
            missing = name is None
            self._findings.add(
                (*place, "type"),
                "config.missing_key" if missing else "config.wrong_type",
                "This key is required." if missing else "The value should be a connector's name.",
                f"Name the {kind}'s connector, such as `type: file`.",
            )
            return None
        at = (*place, "type")
        try:
            connector = self._find(kind, name)
            at = place
            return connector, connector.config.model_validate(options)
        except ValidationError as error:
            self._findings.add_invalid(error, connector.config, options, place)
        except EnsignError as error:
            self._findings.add(at, error.code, error.sentence, error.remedy)
        return None
