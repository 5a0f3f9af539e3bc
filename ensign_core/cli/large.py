"""Files as events: ``ensign publish --file`` and ``ensign read --save``."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ensign_core.broker import (
    Assembler,
    Broker,
    Chunked,
    ClaimCheck,
    Event,
    FolderStore,
    Large,
    Reader,
    Received,
    S3Store,
    Store,
    received,
)
from ensign_core.broker.events import EVENT_BYTES_MAX
from ensign_core.change import Offset
from ensign_core.cli.output import notice, out
from ensign_core.errors import EnsignError

FileOption = Annotated[
    Path | None, typer.Option("--file", help="Publish this file as one event.")
]  # fmt: skip
ChunkedOption = Annotated[
    bool, typer.Option("--chunked", help="Publish a large file in parts, in the topic itself.")
]
ClaimCheckOption = Annotated[
    str | None,
    typer.Option(
        "--claim-check", metavar="STORE",
        help="Put a large file, encrypted, into a folder or s3://BUCKET/PREFIX.",
    ),
]  # fmt: skip
MimetypeOption = Annotated[
    str | None, typer.Option("--mimetype", help="The mimetype of the file.")
]  # fmt: skip
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="DIR", help="Write each event's data to a file, DIR/OFFSET."),
]
StoresOption = Annotated[
    list[str] | None,
    typer.Option(
        "--store", metavar="STORE", help="With --save: where claim checks lie, as in publish."
    ),
]


def store(text: str) -> Store:
    """The store that an option names: ``s3://BUCKET/PREFIX`` or a folder."""
    if not text.startswith("s3://"):
        return FolderStore(text)
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise EnsignError(
            "usage.store_invalid", "A store in S3 has no bucket.", "Write s3://BUCKET/PREFIX."
        )
    return S3Store(bucket, prefix)


def how(
    file: Path | None, chunked: bool, claim_check: str | None, mimetype: str | None, key: str | None
) -> Large | None:
    """How ``publish`` is to publish a file, None for as an event by itself."""
    if file is None and (chunked or claim_check or mimetype):
        raise _conflict("--chunked, --claim-check and --mimetype say how to publish a --file")
    if file is not None and key is not None:
        raise _conflict("--key names a field of lines, and a --file is one event")
    if chunked and claim_check:
        raise _conflict("--chunked and --claim-check are two ways to publish a file")
    if claim_check:
        return ClaimCheck(store(claim_check))
    return Chunked() if chunked else None


def _conflict(sentence: str) -> EnsignError:
    return EnsignError("usage.conflict", f"{sentence}.", "Leave one of them out.")


def publish(
    broker: Broker, topic: str, path: Path, large: Large | None, mimetype: str | None
) -> tuple[Offset, bool]:
    """Publish a file as one event; its offset, and whether it is a duplicate."""
    event = Event(b"", mimetype=mimetype)
    try:
        with path.open("rb") as file:
            if large is not None:
                return broker.publish_file(topic, file, large, event), False
            data = file.read(EVENT_BYTES_MAX + 1)
    except OSError as error:
        if error.filename is None:
            raise
        raise EnsignError(
            "usage.file_unreadable",
            f"The file {path} cannot be read: {error.strerror}.",
            "Give a file that this user may read.",
        ) from None
    if len(data) > EVENT_BYTES_MAX:
        raise EnsignError(
            "event.too_large",
            f"The file {path} has more than the {EVENT_BYTES_MAX} bytes that an event may have.",
            "Publish it with --chunked, or with --claim-check and a store.",
        )
    ack = broker.publisher().publish(topic, Event(data, mimetype=mimetype))
    return ack.offset, ack.duplicate


def save(
    broker: Broker, reader: Reader, folder: Path, stores: list[str], most: int, *, follow: bool
) -> None:
    """Write the data of the next ``most`` events to files named by their offsets, and say so."""
    assembler = broker.assembler([store(text) for text in stores])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while most > 0:
            batches = reader.fetch(1.0 if follow else 0.0)
            if not batches and not follow:
                return
            for found in chain.from_iterable(map(received, batches)):
                if most > 0 and _saved(assembler, found, folder / str(found.offset)):
                    most -= 1
    except OSError as error:
        raise EnsignError(
            "output.failed",
            f"A file in {folder} cannot be written: {error.strerror}.",
            "Make room, or give a folder that this user may write to.",
        ) from None


def _saved(assembler: Assembler, found: Received, path: Path) -> bool:
    try:
        saved = assembler.save(found, path)
    except EnsignError as error:
        if error.code != "event.incomplete":
            raise
        notice(f"{error.sentence} It is passed over.")
        return False
    if saved:
        out.print(f"saved {path}", markup=False)
    return saved
