def split(row: bytes) -> tuple[bytes, list[bytes]]:
    """Kinds and raw values of a row: one kind byte and one value (empty for ``n`` and ``u``) per
    column. Raises ``rows.damaged`` where the bytes do not fit the layout."""

def check_body(body: bytes) -> None:
    """Raise ``rows.damaged`` unless ``body`` is a run of well-formed images."""

def join(kinds: bytes, values: list[bytes]) -> bytes:
    """A row of what `split` gives; values of nulls and unchanged columns do not count. Raises
    ValueError for what is no row."""
