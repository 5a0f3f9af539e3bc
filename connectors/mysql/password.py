"""Passwords that a program gives, such as tokens of a cloud that hold for some minutes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from connectors.mysql.errors import error


def password_of(command: Sequence[str], timeout_s: float) -> str:
    """What ``command`` prints, without its last newline. It runs without a shell and with nothing
    to read. What it prints is never told, on standard error neither: either may hold a secret."""
    program = command[0]
    try:
        ran = subprocess.run(  # noqa: S603
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise error(
            "password_command.timeout", program=program, timeout_s=f"{timeout_s:g}"
        ) from None
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "no such name"
        raise error("password_command_invalid", program=program, reason=reason) from None
    try:
        password = ran.stdout.decode()
    except UnicodeDecodeError:
        password = ""
    password = password.removesuffix("\n").removesuffix("\r")
    if ran.returncode or not password or "\0" in password:
        raise error("password_command.unreachable", program=program, status=ran.returncode)
    return password
