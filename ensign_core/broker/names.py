"""Names of topics."""

from __future__ import annotations

from ensign_core.errors import EnsignError

TOPIC_BYTES_MAX = 512


def check_topic_name(name: str) -> None:
    """Raise ``topic.name_invalid`` unless ``name`` may name a topic."""
    legal = name.isascii() and all(c.isalnum() or c in "._-" for c in name)
    if not name or len(name) > TOPIC_BYTES_MAX or not legal:
        raise EnsignError(
            "topic.name_invalid",
            "A topic's name is 1 to 512 letters, digits, dots, underscores and hyphens.",
            "Choose another name.",
        )


def unknown_topic(name: str) -> EnsignError:
    return EnsignError(
        "topic.unknown", f"There is no topic {name!r}.", "List the topics with: ensign topics list"
    )
