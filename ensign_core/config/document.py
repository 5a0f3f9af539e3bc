"""A YAML file as plain values that know their lines.

PyYAML's own loader keeps the last of two equal keys in silence and forgets where a value stood, so
the composed nodes are walked here instead. Types are those of YAML's safe schema; keys are text as
it is written, so ``on:`` and ``5:`` are names and not a boolean and a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ensign_core.config.findings import Findings, Place

_MERGE = "tag:yaml.org,2002:merge"
_QUOTED = re.compile(r"'([^']*)'")


def parse(path: Path, findings: Findings) -> Any:
    """The file's content: mappings, lists and scalars; None for an empty file.

    Notes lines and duplicate keys in ``findings``; raises its errors at once where nothing can be
    made of the file.
    """
    text = _read(path, findings)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _Walk(loader, findings).value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        findings.add((), "config.syntax", _sentence(error), _REMEDY, line=line)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        sentence = "The file holds a control character, which YAML does not allow."
        findings.add((), "config.syntax", sentence, "Remove it.", line=line)
    except RecursionError:
        sentence = "The file is nested too deeply."
        findings.add((), "config.syntax", sentence, "Remove brackets or indentation.")
    raise findings.errors()


_REMEDY = (
    "Check the indentation and the line before, and quote values that hold : # or start with "
    "one of [ ] { } & * ! | > % @ `."
)


def _read(path: Path, findings: Findings) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        sentence, remedy = "The config file does not exist.", "Check the path."
        findings.add((), "config.file_missing", sentence, remedy, line=0)
    except UnicodeDecodeError:
        sentence, remedy = "The config file is not UTF-8 text.", "Save it as UTF-8."
        findings.add((), "config.file_unreadable", sentence, remedy, line=0)
    except OSError:
        sentence = "The config file cannot be read by this user."
        remedy = "Check that it is a file and who may read it."
        findings.add((), "config.file_unreadable", sentence, remedy, line=0)
    raise findings.errors()


def _sentence(error: yaml.MarkedYAMLError) -> str:
    """The parser's own words, without what it quotes from the file: that may be a secret."""
    said = _QUOTED.sub(
        lambda quoted: quoted[0] if len(quoted[1]) <= 2 or quoted[1][0] == "<" else "...",
        ", ".join(filter(None, (error.context, error.problem))),
    )
    return f"This is not YAML: {said}."


class _Walk:
    """Turns composed nodes into values, one file at a time."""

    def __init__(self, loader: yaml.SafeLoader, findings: Findings) -> None:
        self._loader = loader
        self._findings = findings
        self._above: list[yaml.Node] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._findings.lines.setdefault(place, node.start_mark.line + 1)
        if any(node is above for above in self._above):
            self._fault(node, place, "An alias refers to what it is part of.", "Remove it.")
            return None
        self._above.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, place)
        finally:
            self._above.pop()

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        try:
            return self._loader.construct_object(node)
        except yaml.constructor.ConstructorError:
            self._fault(node, place, "A tag here has no meaning.", "Remove it, or quote the value.")
            return None
        except ValueError:
            # What only looks like a number or a date, such as 2026-13-45, is text.
            return node.value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, item in node.value:
            if key.tag == _MERGE:
                for shared in self._shared(item, place):
                    # The first of several mappings wins, as YAML's merge says.
                    merged = {**self._mapping(shared, place), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, place, "A key here is not text.", "Quote it.")
                continue
            name, line = key.value, key.start_mark.line + 1
            inner = (*place, name)
            if name in own:
                self._findings.add(
                    inner,
                    "config.duplicate_key",
                    f"The key is here twice, first in line {self._findings.lines[inner]}.",
                    "Remove one of them.",
                    line=line,
                )
                continue
            self._findings.lines[inner] = line
            own[name] = self.value(item, inner)
        return merged | own

    def _shared(self, node: yaml.Node, place: Place) -> Iterator[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for shared in nodes:
            if isinstance(shared, yaml.MappingNode) and shared not in self._above:
                yield shared
            else:
                self._fault(node, place, "What << merges is not a mapping.", "Correct the alias.")

    def _fault(self, node: yaml.Node, place: Place, sentence: str, remedy: str) -> None:
        line = node.start_mark.line + 1
        self._findings.add(place, "config.syntax", sentence, remedy, line=line)
