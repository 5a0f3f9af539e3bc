from collections.abc import Sequence

from connectors.mysql.damage import DamagedError as DamagedError
from connectors.mysql.damage import MismatchError as MismatchError
from connectors.mysql.damage import NoBaseError as NoBaseError
from connectors.mysql.gathered import Gathered
from connectors.mysql.wire import WireColumn

WRITE: int
UPDATE: int
DELETE: int
PARTIAL_UPDATE: int

class RowDecoder:
    """Decodes the rows events of one table map. Made once for it; used by one thread."""

    def __init__(
        self,
        columns: Sequence[WireColumn],
        key: Sequence[int],
        keep: Sequence[int] | None = None,
    ) -> None:
        """``key`` and ``keep`` are indexes into ``columns``: the key's columns, and those that are
        in the rows (all if None). LookupError with the name of a charset or type that nobody
        knows, `DamagedError` for metadata that no server writes."""

    def rows(self, event: bytes, at: int, kind: int, into: Gathered) -> int:
        """Add a body for each row of a rows event, in order, and give their number.

        ``event`` is without checksum; ``at`` is the place of its number of columns, behind the
        post-header and its extra data; ``kind`` is one of the constants of this module. The body
        of an update is an old and a new image, of a delete an old one, of an insert a new one.

        An old image is key-only (``K``) if it has the key's columns and no others, which are then
        ``n``, as with binlog_row_image MINIMAL; else it is full (``O``), and lacks as unchanged
        what is not in it: large columns with NOBLOB, generated ones of MariaDB 11. What a new image
        lacks is unchanged, but the key's columns are then those of the old image.

        Raises `DamagedError` for bytes that do not follow the format and `MismatchError` for a row
        of other columns, `NoBaseError` for changes to a JSON value that the old image lacks;
        ``into`` is then as it was.
        """
