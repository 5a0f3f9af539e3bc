def double_text(value: float) -> str:
    """The shortest text that reads back as the same number, as ``repr`` gives it, but without a
    trailing ``.0``; ``NaN``, ``Infinity`` and ``-Infinity`` for what is no number."""

def float_text(value: float) -> str:
    """The same for a number of 32 bits: the shortest text that reads back as the same float32."""
