"""``ensign`` in a process that says how long a connector's work took.

``python -m tests.bench.worked CONNECTOR source|sink ARGUMENTS...`` runs the command line with
ARGUMENTS and prints, at its end, the seconds since the connector was made; the start of Python and
of the pipeline is left out, the end of the process, with its last commits, is not.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

from connectors import registry
from ensign_core.plugin import Connector

began: list[float] = []


def main() -> None:
    name, kind, *arguments = sys.argv[1:]
    meant = kind, name
    real = registry.connector

    def connector(kind: registry.Kind, name: str) -> Connector[Any]:
        found = real(kind, name)
        if (kind, name) != meant:
            return found

        def make(config: Any, context: Any) -> Any:
            began.append(time.monotonic())
            return found.make(config, context)

        return replace(found, make=make)

    registry.connector = connector
    sys.argv = ["ensign", *arguments]
    from ensign_core.cli import main as ensign

    try:
        ensign()
    finally:
        print(time.monotonic() - began[0], flush=True)


if __name__ == "__main__":
    main()
