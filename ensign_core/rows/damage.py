"""The one error of the row layout; apart from the rest, so that the compiled modules can raise it
while `ensign_core.rows` is being imported."""

from __future__ import annotations

from ensign_core.errors import EnsignError


def damaged() -> EnsignError:
    return EnsignError(
        "rows.damaged",
        "A row's bytes do not follow the row layout.",
        "Report this with the connector's name; read on behind it with a later offset.",
    )
