class Framer:
    """Events out of the packets that follow a COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID.

    The thread that reads the socket receives into `buffer`, says with `filled` how much came, and
    then calls `events` until there are none, before it receives again. ``checksums`` says whether
    the algorithm agreed on in ``@source_binlog_checksum`` was CRC32: so begins the stream. From the
    first format description on, what each of them says counts (MySQL and MariaDB alike: a fake
    rotation in front of it has a checksum only if that was agreed on, whatever the log has).

    What was received stays bounded: 1 MiB, and the one larger event that is being received, which
    grows with what has come of it and may have 1 GiB and 1 MiB at most."""

    checksums: bool
    """Whether events now end with a checksum."""

    ended: bool
    """Whether the server said with an EOF packet that the log ends here."""

    def __init__(self, checksums: bool) -> None: ...
    def buffer(self) -> memoryview:
        """Room to receive into, at least 256 KiB. Raises ValueError while there are events that
        nobody took."""

    def filled(self, count: int) -> None:
        """``count`` bytes were received into the last `buffer`."""

    def events(self, size_max: int = ...) -> list[bytes]:
        """The next events that are complete, in order, about ``size_max`` bytes at most, but at
        least one if there is one. Each is its header and body, without the four bytes of the
        checksum, which was right; the size in its header still counts them.

        Raises `DamagedError` for what is no packet or event, or has a wrong checksum or sequence
        number, and `ServerError` for the server's ERR packet; both only when the events before it
        were taken, and again from then on."""
