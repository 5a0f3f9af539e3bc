"""``python -m tests.bench NAME [options]``"""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("postgres", "mysql", "kafka", "broker", "json", "transforms")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"usage: python -m tests.bench {'|'.join(NAMES)} [options]", file=sys.stderr)
        return 2
    import_module(f"tests.bench.{sys.argv[1]}").main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
