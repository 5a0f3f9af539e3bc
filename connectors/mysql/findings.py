"""Findings of `ensign check`, made of the words of `connectors.mysql.errors`."""

from __future__ import annotations

from connectors.mysql.errors import error
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def failed(problem: EnsignError) -> Finding:
    """What has to be mended before the pipeline can run, or before it captures all it should."""
    return Finding("error", problem.code, problem.sentence, problem.remedy)


def found(word: str, **facts: object) -> Finding:
    """The same, by its word."""
    return failed(error(word, **facts))


def warned(word: str, **facts: object) -> Finding:
    """What should be mended."""
    problem = error(word, **facts)
    return Finding("warning", problem.code, problem.sentence, problem.remedy)


def passed(word: str, sentence: str) -> Finding:
    return Finding("pass", f"mysql.{word}", sentence)
