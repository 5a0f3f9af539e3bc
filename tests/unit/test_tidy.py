"""The house rules that no linter holds: sizes, names, and what must not be written at all."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
SMALLER: dict[str, int] = {
    # The contract that every connector's author reads, and the example that shows it is small.
    "ensign_core/plugin.py": 200,
    "connectors/generator/source.py": 80,
}
VAGUE_NAMES = {"utils", "common", "helpers", "manager", "base", "misc"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
IGNORED_TYPE = re.compile(r"#\s*type:\s*ignore(?P<code>\[[\w, -]+\])?(?P<rest>.*)")
CONFIG_MAY_IMPORT = {*sys.stdlib_module_names, "ensign_core", "connectors", "pydantic"}
CONFIG_MAY_IMPORT |= {"pydantic_core"}

MODULES = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("ensign_core", "connectors", "tests")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
}
TEXTS = {name: path.read_text() for name, path in MODULES.items()}
TREES = {name: ast.parse(text, name) for name, text in TEXTS.items()}
COMPILED = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("ensign_core", "connectors")
    for suffix in ("pyx", "pxd", "pyi")
    for path in sorted(ROOT.glob(f"{folder}/**/*.{suffix}"))
}
THIS = Path(__file__).relative_to(ROOT).as_posix()


def test_size_of_modules() -> None:
    assert [name for name in SMALLER if name not in TEXTS] == []
    lines = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    limits = {name: SMALLER.get(name, MODULE_LINES_MAX) for name in TEXTS}
    assert {name: count for name, count in lines.items() if count > limits[name]} == {}


def test_size_of_functions() -> None:
    lines = {
        f"{name}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES_MAX} == {}


def test_what_is_compiled_keeps_to_the_same_sizes() -> None:
    """Functions are told by their first lines: a name, arguments, and a colon at the end."""
    lines = {name: text.splitlines() for name, text in COMPILED.items()}
    assert {name: len(found) for name, found in lines.items() if len(found) > 400} == {}
    wide = [f"{name}:{n}" for name, found in lines.items() for n, line in enumerate(found, 1)
            if len(line) > 100]  # fmt: skip
    assert wide == []
    heads = re.compile(r"^(?: {4})?(?:cdef|def|cdef inline) .*[(:]$|^\S", re.MULTILINE)
    for name, text in COMPILED.items():
        starts = [text[: match.start()].count("\n") for match in heads.finditer(text)]
        ends = [*starts[1:], text.count("\n")]
        long = [a + 1 for a, b in zip(starts, ends, strict=True) if b - a > FUNCTION_LINES_MAX + 2]
        assert [f"{name}:{line}" for line in long] == []


def test_names_say_something() -> None:
    names = [*TEXTS, *COMPILED]
    assert [n for n in names if VAGUE_NAMES & set(Path(n).with_suffix("").parts)] == []


def test_nothing_is_left_unfinished() -> None:
    assert [
        n for n, text in (TEXTS | COMPILED).items() if UNFINISHED.search(text) and n != THIS
    ] == []


def test_ignored_types_have_a_code_and_a_reason() -> None:
    bare = [
        f"{name}: {match[0]}"
        for name, text in TEXTS.items()
        for match in IGNORED_TYPE.finditer(text)
        if name != THIS and not (match["code"] and re.search(r"#.*\w", match["rest"]))
    ]
    assert bare == []


def test_tests_do_not_sleep() -> None:
    """They wait for events. Whoever starts a real service has nothing to wait on but its answer."""
    sleeps = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if name.startswith("tests/") and not name.startswith("tests/services/")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep")
        or (isinstance(node, ast.ImportFrom) and "time.sleep" in _from(node))
    ]
    assert sleeps == []


def _from(node: ast.ImportFrom) -> list[str]:
    return [f"{node.module}.{name.name}" for name in node.names]


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file; relative ones are not used here."""
    for node in ast.walk(TREES[path.relative_to(ROOT).as_posix()]):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert not node.level, "import by the full name"
            yield node.module
            yield from _from(node)


def _files(module: str) -> Iterator[Path]:
    """The files that importing a module of ours executes."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        stem = ROOT.joinpath(*parts[:length])
        yield from (f for f in (stem / "__init__.py", stem.with_suffix(".py")) if f.exists())


@pytest.mark.parametrize(
    "config",
    sorted(ROOT.glob("connectors/*/config.py")),
    ids=lambda path: path.parent.name,
)
def test_a_connectors_config_needs_no_driver(config: Path) -> None:
    """`ensign check` works where the driver is not installed; what the config imports of the
    connector's own modules counts too."""
    package = config.parent.relative_to(ROOT).as_posix().replace("/", ".")
    pending = list(_files(f"{package}.config"))
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in _imports(path):
            assert module.split(".")[0] in CONFIG_MAY_IMPORT, f"{path.name} imports {module}"
            if module.startswith("connectors."):
                pending.extend(_files(module))
