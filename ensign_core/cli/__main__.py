"""``python -m ensign_core.cli``: what the supervisor starts its workers with."""

from ensign_core.cli.app import main

if __name__ == "__main__":
    main()
