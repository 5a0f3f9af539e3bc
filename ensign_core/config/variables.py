"""What comes from outside the file: ``${VAR}``, ``${VAR:-default}``, ``${file:PATH}``, ``$$``.

They are replaced in values after the YAML is parsed, so a secret with a colon, a quote or a line
break is a value and never structure. What is put in is not searched again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ensign_core.errors import EnsignError

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<inner>[^}]*)(?P<end>\})?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMS = "Write ${VAR}, ${VAR:-default} or ${file:PATH}, and $$ for a dollar sign."


def expand(text: str) -> str:
    """``text`` with its references replaced; a ``$`` that starts none stays as it is.

    A variable that is set but empty counts as missing where a default is given, as in a shell. A
    file's trailing newline is dropped; its path is relative to the working directory. Raises
    ``config.variable_missing``, ``config.variable_syntax``, ``config.secret_missing`` or
    ``config.secret_unreadable``; messages hold the name of a variable or a file, never a value.
    """
    return _REFERENCE.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    inner = match["inner"]
    if inner is None:
        return "$"
    if match["end"] is None or "${" in inner:
        raise EnsignError(
            "config.variable_syntax",
            "A ${ has no closing brace of its own (references do not nest).",
            _FORMS,
        )
    if inner.startswith("file:"):
        return _file(inner.removeprefix("file:"))
    name, has_default, default = inner.partition(":-")
    if not _NAME.fullmatch(name):
        raise EnsignError("config.variable_syntax", "A ${...} names no variable.", _FORMS)
    value = os.environ.get(name)
    if has_default:
        return value or default
    if value is None:
        raise EnsignError(
            "config.variable_missing",
            f"The environment variable {name} is not set.",
            f"Set {name}, or give a default with ${{{name}:-default}}.",
        )
    return value


def _file(path: str) -> str:
    try:
        text = Path(path).read_bytes().decode()
    except FileNotFoundError:
        raise EnsignError(
            "config.secret_missing",
            f"The file {path} does not exist.",
            "Create it, or correct the path; it is relative to the working directory.",
        ) from None
    except (OSError, ValueError):
        raise EnsignError(
            "config.secret_unreadable",
            f"The file {path} cannot be read as UTF-8 text by this user.",
            "Check that it is a text file and who may read it.",
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
