from array import array

class Gathered:
    """The growing body of a batch and the ends of its events in it. The compiled decoders write
    into it; who owns the batch takes it. Used by one thread."""

    size: int
    """Bytes of all bodies."""

    def __len__(self) -> int:
        """How many events there are."""

    def append(self, body: bytes) -> None:
        """Add an event with this body, which may be empty."""

    def body(self, index: int) -> bytes:
        """The body of an event. IndexError if there is none at ``index``, which is not negative."""

    def bodies(self, start: int = 0) -> list[bytes]:
        """The bodies of the events from ``start`` on."""

    def cut(self, start: int) -> None:
        """Take the events from ``start`` on away again; the others stay."""

    def take(self) -> tuple[bytes, array[int]]:
        """Body and ends as a `Batch` has them, and start over."""
