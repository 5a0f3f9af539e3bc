"""Errors as an operator meets them: a dotted code, one sentence, one remedy.

The last word of a code says what kind of failure it is (``postgres.unreachable``,
``engine.disk_full``); ``ensign_core.run.retry`` holds the one table that decides from it whether a
pipeline waits or stops. A message never holds a value of a row, a secret or a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping


class EnsignError(Exception):
    """A failure that a person can act on.

    ``code`` is stable and public: scripts match on it. ``sentence`` says what happened and
    ``remedy`` what to do; both are one sentence, without a line break.
    """

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        super().__init__(f"{code}: {sentence} {remedy}")
        self.code = code
        self.sentence = sentence
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[EnsignError], tuple[str, str, str]]:
        return EnsignError, (self.code, self.sentence, self.remedy)

    def as_dict(self) -> dict[str, str]:
        """The shape that ``ensign status --json`` and other machine-readable output use."""
        return {"code": self.code, "message": self.sentence, "remedy": self.remedy}


class ConfigError(EnsignError):
    """What is wrong in a config file; ``where`` is ``FILE:LINE: path.in.the.file``."""

    def __init__(self, code: str, where: str, sentence: str, remedy: str) -> None:
        super().__init__(code, f"{where}: {sentence}" if where else sentence, remedy)
        self.where = where

    def __reduce__(self) -> tuple[type[EnsignError], tuple[str, str, str]]:
        return EnsignError, (self.code, self.sentence, self.remedy)


def worded(
    connector: str, words: Mapping[str, tuple[str, str]], word: str, facts: Mapping[str, object]
) -> EnsignError:
    """The error ``CONNECTOR.WORD`` of a connector's table of sentences and remedies by word, filled
    in with ``facts``. Those that are not known are ``(unknown)``; what comes from elsewhere may
    have any characters, and a message is a line."""
    sentence, remedy = words[word]
    known = _Blanks({name: _on_one_line(fact) for name, fact in facts.items()})
    return EnsignError(f"{connector}.{word}", sentence.format_map(known), remedy.format_map(known))


class _Blanks(dict[str, object]):
    """Lets a sentence be made where not all of its facts are known."""

    def __missing__(self, key: str) -> str:
        return "(unknown)"


def _on_one_line(fact: object) -> object:
    if not isinstance(fact, str) or fact.isprintable():
        return fact
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in fact)


def unexpected(error: BaseException) -> EnsignError:
    """The error for an exception that nobody classified: names its type and place, not its text,
    since the text of a driver's or a library's exception may hold a value of a row."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = ""
    if frame is not None:
        code = frame.tb_frame.f_code
        place = f" in {code.co_qualname} (line {frame.tb_lineno})"
    return EnsignError(
        "internal.unexpected",
        f"An unexpected {type(error).__name__} was raised{place}.",
        "Nothing is lost: the pipeline goes on from its last durable position when it is run "
        "again; please report this with the command that led to it.",
    )
