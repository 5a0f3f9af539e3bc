from array import array

from confluent_kafka import Message

def bodies(
    messages: list[Message], start: int, bytes_max: int, nexts: dict[str, dict[int, int]]
) -> tuple[int, list[str], array[int], array[int], bytes]:
    """The records in ``messages`` from ``start`` on as bodies of rows of `record_schema`, and
    ``nexts``, the offset that comes next by topic and partition, moved behind them.

    The end of a partition moves that too. Ends before a message that is another error, before one
    whose offset is below the one that comes next, and as soon as there are ``bytes_max`` bytes.
    Returns the index of the first message that was not taken, the topics met, each event's index
    among them (``H``), the ends of the bodies (``I``), and the bodies."""
