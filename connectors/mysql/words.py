"""The words of a statement: names, texts, words and marks without blanks and comments. Pure.

What the servers run of a comment (``/*!50100 ... */``, MariaDB's ``/*M! ... */``) is part of the
statement: what they do not run they log as a plain comment (``Lex_input_stream`` of both servers).
Source: MySQL Reference Manual, "Language Structure".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

ANSI_QUOTES: Final = 0x4
NO_BACKSLASH_ESCAPES: Final = 0x100000
"""Bits of a statement's sql_mode."""

_BLANK: Final = r"(?P<blank>\s+|/\*M?!\d*|\*/|/\*.*?(?:\*/|$)|(?:--(?=\s|$)|\#)[^\n]*)"
_NAME: Final = r"(?P<name>`(?:[^`]|``)*`)"
_WORD: Final = r"(?P<word>[0-9A-Za-z_$\x80-\U0010FFFF]+)"
_ESCAPING: Final = r"""(?P<text>'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|""|\\.)*")"""
_PLAIN: Final = r"""(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")"""


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("|".join((_BLANK, _NAME, text, _WORD, "(?P<mark>.)")), re.DOTALL)


_PATTERNS: Final = {False: _pattern(_ESCAPING), True: _pattern(_PLAIN)}

_ESCAPED: Final = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class Word(NamedTuple):
    """``text`` is without its quotes; of a word that is not in quotes in small letters, ``given``
    as it stands there."""

    kind: Literal["name", "text", "word", "mark"]
    text: str
    given: str


def words(statement: str, sql_mode: int = 0) -> list[Word]:
    """All of a statement. What is no SQL is full of marks, which nobody looks for."""
    plain = bool(sql_mode & NO_BACKSLASH_ESCAPES)
    found = []
    for match in _PATTERNS[plain].finditer(statement):
        kind, text = match.lastgroup, match[0]
        if kind == "name":
            found.append(Word("name", text[1:-1].replace("``", "`"), text))
        elif kind == "text":
            found.append(_text(text, plain=plain, named=bool(sql_mode & ANSI_QUOTES)))
        elif kind == "word":
            found.append(Word("word", text.lower(), text))
        elif kind == "mark":
            found.append(Word("mark", text, text))
    return found


def _text(text: str, *, plain: bool, named: bool) -> Word:
    quote, inner = text[0], text[1:-1].replace(text[0] * 2, text[0])
    if named and quote == '"':
        return Word("name", inner, text)
    if not plain:
        inner = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), inner)
    return Word("text", inner, text)


Name = tuple[str, str]
"""Database and table."""


class Reader:
    """Reads words from the first to the last."""

    def __init__(self, found: Sequence[Word]) -> None:
        self._words = found
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._words)

    @property
    def rest(self) -> Sequence[Word]:
        """Those to come."""
        return self._words[self._at :]

    def sees(self, *texts: str, ahead: int = 0) -> bool:
        """Whether these come next, in this order; a name in quotes is none of them."""
        at = self._at + ahead
        next_ones = self._words[at : at + len(texts)]
        return len(next_ones) == len(texts) and all(
            word.kind in ("word", "mark") and word.text == text
            for word, text in zip(next_ones, texts, strict=True)
        )

    def takes(self, *texts: str) -> bool:
        """Pass these if they come next; whether they did."""
        seen = self.sees(*texts)
        if seen:
            self._at += len(texts)
        return seen

    def takes_one(self, *texts: str) -> str:
        """Pass one of these words if it comes next; which one, or nothing."""
        return next((text for text in texts if self.takes(text)), "")

    def next(self) -> Word | None:
        """Pass the next word."""
        if not self:
            return None
        self._at += 1
        return self._words[self._at - 1]

    def name(self) -> str | None:
        """Pass a name; None, and nothing is passed, where none comes next."""
        if not self or self._words[self._at].kind not in ("name", "word"):
            return None
        found = self._words[self._at]
        self._at += 1
        return found.text if found.kind == "name" else found.given

    def table(self, database: str) -> Name | None:
        """Pass a table's name, with or without its database."""
        first = self.name()
        if first is None:
            return None
        if self.takes("."):
            second = self.name()
            return None if second is None else (first, second)
        return database, first

    def inner(self) -> list[Word] | None:
        """Pass what is in parentheses; None where none come next or they do not end."""
        if not self.sees("("):
            return None
        depth = 0
        for at in range(self._at, len(self._words)):
            word = self._words[at]
            if word.kind == "mark":
                depth += (word.text == "(") - (word.text == ")")
            if not depth:
                found = list(self._words[self._at + 1 : at])
                self._at = at + 1
                return found
        return None


def split(found: Sequence[Word]) -> list[list[Word]]:
    """The parts between commas that are in no parentheses."""
    parts: list[list[Word]] = [[]]
    depth = 0
    for word in found:
        if word.kind == "mark":
            depth += (word.text == "(") - (word.text == ")")
            if word.text == "," and not depth:
                parts.append([])
                continue
        parts[-1].append(word)
    return parts
