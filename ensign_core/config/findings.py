"""What is wrong in a config file, collected so that one run reports all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ensign_core.errors import ConfigError

Place = tuple[str | int, ...]
"""The way to a value in the file: keys of mappings and indexes of lists."""

SECRET_PIECE_CHARS_MIN = 3


class ConfigErrors(ConfigError):  # noqa: N818 - it holds several, and its name says so
    """Everything that is wrong in a config file, in the order of its lines.

    As an `EnsignError` it is the first of ``errors``, so whoever knows nothing of config files
    shows something true; the command line prints all of them.
    """

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        first = errors[0]
        super().__init__(first.code, "", first.sentence, first.remedy)
        self.where = first.where
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class Findings:
    """The errors found so far, and the lines of the file to name them by."""

    def __init__(self, file: Path) -> None:
        self.lines: dict[Place, int] = {}
        self._file = file
        self._found: list[tuple[int, Place, ConfigError]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def errors(self) -> ConfigErrors:
        """All of them as one exception; there must be one."""
        ordered = sorted(self._found, key=lambda found: found[0])
        return ConfigErrors(tuple(error for _, _, error in ordered))

    def add(
        self, place: Place, code: str, sentence: str, remedy: str, *, line: int | None = None
    ) -> None:
        """Note an error, unless one at ``place`` or below it is known: then it follows from that
        one, such as a value of the wrong type after its variable was missing."""
        if any(known[: len(place)] == place for _, known, _ in self._found) and place:
            return
        if line is None:
            line = next((self.lines[p] for p in _outward(place) if p in self.lines), 1)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
        # Line 0 is that of a file which could not be read.
        where = str(self._file) + (f":{line}" if line else "")
        where += f": {path.removeprefix('.')}" if path else ""
        self._found.append((line, place, ConfigError(code, where, sentence, remedy)))

    def add_invalid(
        self, error: ValidationError, model: type[BaseModel], value: Any, place: Place = ()
    ) -> None:
        """Note what pydantic found when it validated ``value``, which stands at ``place``."""
        secrets = sorted(_secrets(model, value), key=len, reverse=True)
        for detail in error.errors(include_url=False, include_input=False):
            inner = _place_of(detail, value)
            code, sentence, remedy = _words(detail, _keys(model, inner[:-1]))
            for secret in secrets:
                sentence = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", sentence)
            self.add((*place, *inner), code, sentence, remedy)


def _outward(place: Place) -> Iterator[Place]:
    return (place[:length] for length in range(len(place), -1, -1))


def _place_of(detail: ErrorDetails, value: Any) -> Place:
    """Where the error is in the file: pydantic's ``loc`` without the names of union members and
    validators in it, which are no keys of the file."""
    place: list[str | int] = []
    loc = detail["loc"]
    for at, step in enumerate(loc):
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, dict) and step in inner:
            value = inner[step]
        elif detail["type"] != "missing" or at + 1 < len(loc):
            continue
        place.append(step)
    if detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        place.append("type")
    return tuple(place)


def _words(detail: ErrorDetails, keys: list[str]) -> tuple[str, str, str]:
    """Code, sentence and remedy. An error type with a dot is a code of its author's choice, with
    the remedy in its context."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("missing", "union_tag_not_found"):
        return "config.missing_key", "This key is required.", "Add it."
    if kind == "extra_forbidden":
        near = get_close_matches(str(detail["loc"][-1]), keys, 1)
        remedy = f"Did you mean {near[0]}?" if near else f"The keys here are: {', '.join(keys)}."
        return "config.unknown_key", "There is no such key here.", remedy
    if kind == "union_tag_invalid":
        sentence = f"The value should be one of {context['expected_tags']}."
        return "config.invalid_value", sentence, "Correct the value."
    sentence = re.sub(r"^(Value error|Assertion failed), ", "", detail["msg"])
    sentence = re.sub(r"^Input ", "The value ", sentence).rstrip(".") + "."
    if "." in kind:
        return kind, sentence, str(context.get("remedy", "Correct the value."))
    if kind == "string_type":
        return "config.wrong_type", sentence, "Write one value, in quotes."
    if kind == "path_type":
        return "config.wrong_type", "The value should be a path.", "Write one value, in quotes."
    wrong = kind.endswith(("_type", "_parsing"))
    return f"config.{'wrong_type' if wrong else 'invalid_value'}", sentence, "Correct the value."


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation mentions, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that are known at a place of the file, for "did you mean"."""
    models = [model]
    steps = iter(place)
    for step in steps:
        annotations = [f.annotation for m in models for name, f in _fields(m) if name == step]
        models = [nested for annotation in annotations for nested in _models(annotation)]
        if any(
            get_origin(part) in (dict, list, tuple)
            for annotation in annotations
            for part in (annotation, *get_args(annotation))
        ):
            next(steps, None)
    return [name for m in models for name, _ in _fields(m)]


def _secrets(model: type[BaseModel], value: Any) -> set[str]:
    """The secrets in a value, and their pieces: a URL's password is no less secret than the URL,
    and a validator of a connector may have put it into its message."""
    found: set[str] = set()
    if isinstance(value, list):
        return found.union(*(_secrets(model, item) for item in value))
    if not isinstance(value, Mapping):
        return found
    for name, field in _fields(model):
        inner = value.get(name)
        if {SecretStr, SecretBytes} & {field.annotation, *get_args(field.annotation)}:
            for text in _texts(inner):
                found.update((text, *re.split(r"[^\w]+", re.sub(r"^\w+://", "", text))))
        else:
            if get_origin(field.annotation) is dict and isinstance(inner, Mapping):
                inner = list(inner.values())
            for nested in _models(field.annotation):
                found |= _secrets(nested, inner)
    return {text for text in found if len(text) >= SECRET_PIECE_CHARS_MIN}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)
