"""Kill a worker again and again under load, then compare the ledger with what came out.

``python -m tests.crash postgres --kills 200 --seed 7`` is the long run; the tests do a short one.
"""
