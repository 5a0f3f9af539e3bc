"""Sizes, times, and the sections of the config that say how much is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensign_core.config import ConfigErrors, load
from ensign_core.config.quantities import seconds_of, size_of


def no_connector(kind: str, name: str) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("17", 17), ("1kB", 1000), ("1.5 MB", 1_500_000), ("50GB", 50 * 10**9),
        ("2TiB", 2 << 40), ("1KiB", 1024), ("0.5kB", 500), ("", None), ("GB", None), ("-1", None),
        ("1 gb", None), ("1e3", None), ("1GB x", None), ("9" * 19, None), ("1d", None),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int | None) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("90", 90), ("1.5s", 1.5), ("2m", 120), ("12h", 43_200), ("7d", 604_800),
        ("1w", 604_800), ("", None), ("d", None), ("7D", None), ("-1d", None), ("1GB", None),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_defaults_and_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "ensign.yaml"
    file.write_text("broker: {disk: {bytes_max: 1000}, topics: {'*': {}}}\n")
    broker = load(file, no_connector).broker  # type: ignore[arg-type] # never called
    assert (broker.disk.bytes_max, broker.disk.free_bytes_min) == (1000, 256 << 20)
    assert broker.topics["*"].model_dump() == {
        "keep_age": None, "keep_bytes": None, "compact": False, "tombstones": 86_400.0,
        "trim_unread": False,
    }  # fmt: skip
    file.write_text(
        "broker:\n  disk: {bytes_max: much}\n  topics:\n    a: {keep_age: 0}\n"
        "    b: {keep_age: 3 moons, tombstones: -1}\n"
    )
    with pytest.raises(ConfigErrors) as raised:
        load(file, no_connector)  # type: ignore[arg-type] # never called
    wheres = [error.where.partition(".yaml:")[2] for error in raised.value.errors]
    assert wheres == [
        "2: broker.disk.bytes_max", "4: broker.topics.a.keep_age", "5: broker.topics.b.keep_age",
        "5: broker.topics.b.tombstones",
    ]  # fmt: skip
    assert "much" not in str(raised.value)
