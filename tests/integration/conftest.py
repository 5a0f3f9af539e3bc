"""The fixture of most tests of the PostgreSQL source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Database
from tests.services.postgres_capture import Capture, captures


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's tables; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["public.*"])
