"""Large events as they were published: claims redeemed, parts passed over."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag

from ensign_core.broker.events import Event, Received, received
from ensign_core.broker.large.claim import (
    PART,
    Claim,
    Measured,
    Parts,
    Stored,
    claim_of,
    damaged,
    is_part,
)
from ensign_core.broker.large.stores import Store
from ensign_core.broker.letters import Lookup
from ensign_core.crypto import open_stream
from ensign_core.errors import EnsignError

LARGE_BYTES_MAX = 1 << 30
"""What an event may have that is given in memory."""

LOST = frozenset({"event.damaged", "event.incomplete", "event.too_large", "claim.missing"})
"""Codes of errors that one event has, and not what is read or looked into."""

OnError = Callable[[Received, EnsignError], None]

_logger = logging.getLogger("ensign")


class Assembler:
    """Gives large events as they were published. Belongs to one thread. ``stores`` are looked into
    for the objects of claim checks, first those that a claim names. Data of more than
    ``large_bytes_max`` bytes is not given in memory (``event.too_large``); `save` and `pieces` have
    a few MB of it there at a time, however long it is."""

    def __init__(
        self, lookup: Lookup, stores: Sequence[Store] = (), large_bytes_max: int = LARGE_BYTES_MAX
    ) -> None:
        self._lookup = lookup
        self._stores = stores
        self._bytes_max = large_bytes_max

    def each(
        self, events: Iterable[Received], on_error: OnError | None = None
    ) -> Iterator[Received]:
        """Events as `whole` gives them. What cannot be given raises; a new call with the same
        iterator goes on behind it. With ``on_error``, that is called for errors in `LOST`, and the
        event passed over. An event whose first parts are not kept any more is passed over in any
        case, and the log says so."""
        for event in events:
            try:
                whole = self.whole(event)
            except EnsignError as error:
                if on_error is not None and error.code in LOST:
                    on_error(event, error)
                elif error.code == "event.incomplete":
                    _logger.warning("%s", error)
                else:
                    raise
                continue
            if whole is not None:
                yield whole

    def whole(self, found: Received) -> Received | None:
        """The event with its own data and mimetype: itself, if it is no claim; None for a part.

        Raises ``event.too_large``, ``event.damaged``, ``event.incomplete`` if retention has removed
        parts, ``claim.missing`` if no store has the object, and what stores and topics raise."""
        event = found.event
        if event is None:
            return found
        if is_part(event):
            return None
        claim = claim_of(event)
        if claim is None:
            return found
        if claim.data_bytes > self._bytes_max:
            raise _too_large(found, claim, self._bytes_max)
        data = io.BytesIO()
        for piece in self._redeem(found, claim):
            data.write(piece)
        return replace(found, event=replace(event, data=data.getvalue(), mimetype=claim.mimetype))

    def pieces(self, found: Received) -> Iterator[bytes]:
        """The data of an event, piece by piece; none for a part or a change of a row. That it is
        all, and as it was published, is known at the end only: raises as `whole` does."""
        event = found.event
        if event is None or is_part(event):
            return
        claim = claim_of(event)
        if claim is None:
            yield event.data
        else:
            yield from self._redeem(found, claim)

    def save(self, found: Received, path: Path) -> bool:
        """Write the data of an event to a file, which is made or replaced when all of it is there
        and on the disk; False, and no file, for what has no data of its own: parts and changes of
        rows. Raises as `whole` does, and OSError."""
        if found.event is None or is_part(found.event):
            return False
        made = path.with_name(f".{path.name}.part")
        try:
            with made.open("wb") as file:
                file.writelines(self.pieces(found))
                file.flush()
                os.fsync(file.fileno())
            made.rename(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        return True

    def _redeem(self, found: Received, claim: Parts | Stored) -> Iterator[bytes]:
        measured = Measured()
        source = self._parts(found, claim) if isinstance(claim, Parts) else self._object(claim)
        for piece in measured.through(source):
            if measured.bytes > claim.data_bytes:
                break
            yield piece
        if (measured.bytes, measured.sha256) != (claim.data_bytes, claim.sha256):
            raise damaged(f"it is at offset {found.offset} of {found.topic}, its bytes are others")

    def _parts(self, found: Received, claim: Parts) -> Iterator[bytes]:
        for number, offset in enumerate(claim.offsets):
            batch = self._lookup.event(found.topic, offset)
            here = next(received(batch), None) if batch is not None else None
            if here is None:
                raise EnsignError(
                    "event.incomplete",
                    f"Parts of the large event at offset {found.offset} of {found.topic} are not "
                    "kept any more.",
                    "Read on behind it; a longer retention keeps whole events longer.",
                )
            event = here.event or Event(b"")
            if event.metadata.get(PART) != f"{claim.run}/{number}":
                raise damaged(f"at offset {offset} of {found.topic} there is no part of it")
            yield event.data

    def _object(self, claim: Stored) -> Iterator[bytes]:
        key = bytes.fromhex(claim.key)
        gone = EnsignError(
            "claim.missing",
            f"The data of a large event was put into the store {claim.store}, and no store is "
            "given to look for it.",
            "Give that store, with stores= or --store.",
        )
        for store in sorted(self._stores, key=lambda store: store.location != claim.store):
            try:
                yield from open_stream(key, store.get(claim.name))
            except InvalidTag:
                raise damaged(f"its object {claim.name} was changed or cut") from None
            except EnsignError as error:
                if error.code != "claim.missing":
                    raise
                gone = error
            else:
                return
        raise gone


def _too_large(found: Received, claim: Claim, bytes_max: int) -> EnsignError:
    return EnsignError(
        "event.too_large",
        f"The event at offset {found.offset} of {found.topic} has {claim.data_bytes} bytes, more "
        f"than the {bytes_max} that are read into memory.",
        "Give a greater large_bytes_max, or write it to a file, with save() or `read --save`.",
    )
