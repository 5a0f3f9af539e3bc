"""``python -m tests.oracle NAME [options]``"""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("mysql",)


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"usage: python -m tests.oracle {'|'.join(NAMES)} [options]", file=sys.stderr)
        return 2
    ended: int = import_module(f"tests.oracle.{sys.argv[1]}").main(sys.argv[2:])
    return ended


if __name__ == "__main__":
    sys.exit(main())
