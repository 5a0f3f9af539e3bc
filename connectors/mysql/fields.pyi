from collections.abc import Sequence

from connectors.mysql.wire import WireColumn

class Fields:
    """Columns made ready for decoding: what `rowimage` and `textrows` share."""

    def __init__(
        self,
        columns: Sequence[WireColumn],
        key: Sequence[int],
        keep: Sequence[int] | None = None,
    ) -> None:
        """``key`` and ``keep`` are indexes into ``columns``; columns that are not in ``keep`` are
        not in the rows. LookupError with the name of a charset or type that nobody knows,
        `DamagedError` for metadata that no server writes, IndexError for an index of no column."""
