"""Events that are larger than an event may be: published as small ones that say where the data is.

The small event is a *claim*. It has the key, metadata and type of the large one; its data says how
many bytes there are, their SHA-256, and where: in *parts*, which are ordinary events of the same
topic before it (`Chunked`), or in an object of a store, encrypted (`ClaimCheck`). It is appended
when all of its data is durable, so a large event is there as a whole or not at all, and its offset
is that of its claim. A reader needs the claim only, and so may begin, commit or share work at any
event; parts by themselves are passed over.
"""

from ensign_core.broker.large.publishing import Chunked, ClaimCheck, Large
from ensign_core.broker.large.reading import LARGE_BYTES_MAX, Assembler
from ensign_core.broker.large.s3 import S3Store
from ensign_core.broker.large.stores import FolderStore, Store

__all__ = [
    "LARGE_BYTES_MAX", "Assembler", "Chunked", "ClaimCheck", "FolderStore", "Large", "S3Store",
    "Store",
]  # fmt: skip
