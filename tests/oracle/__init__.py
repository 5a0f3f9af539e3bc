"""Measurements of another kind than speed: our codecs held against those of other projects, on as
many random inputs as one has time for. ``python -m tests.oracle NAME``."""
