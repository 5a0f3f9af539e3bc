"""Measurements, never assertions: ``python -m tests.bench NAME`` runs us beside the limit and the
rival on the same server in the same run, alternating, and prints ratios."""
