from collections.abc import Sequence

from connectors.mysql.damage import DamagedError as DamagedError
from connectors.mysql.damage import MismatchError as MismatchError
from connectors.mysql.damage import ServerError as ServerError
from connectors.mysql.gathered import Gathered
from connectors.mysql.wire import WireColumn

class TextRows:
    """The answer to one COM_QUERY, from its first packet on, as bodies of snapshot rows. What has
    raised is of no more use; used by one thread."""

    def __init__(self, columns: Sequence[WireColumn], key: Sequence[int]) -> None:
        """``columns`` are those of the statement, in order, FLOAT and DOUBLE as ``column * 1e0``;
        ``key`` are indexes into them. LookupError with the name of a charset or type that nobody
        knows, `DamagedError` for metadata that no server writes."""

    ended: bool
    """Whether the answer's last packet was read."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes as they came from the server; they are copied."""

    def rows(self, into: Gathered, bytes_max: int) -> int:
        """Add a body for each row that has arrived whole, until these bodies have ``bytes_max``
        bytes or more; their number. The last packet is read with the last row.

        Raises `ServerError` if the server answers with an error, `DamagedError` for bytes that do
        not follow the protocol and `MismatchError` for another number of columns; ``into`` is then
        as it was.
        """

    def last_key(self) -> tuple[bytes | None, ...] | None:
        """The values of the key's columns in the last row, as they are in the row layout, without
        kind and length; None before the first row."""
