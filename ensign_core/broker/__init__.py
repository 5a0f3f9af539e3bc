"""The embedded broker: encrypted, persistent, replayable topics in a folder.

    from ensign_core.broker import Broker, Event

    with Broker.open("var/notes") as broker:
        broker.publish("notes", [Event(b'{"text": "hello"}', mimetype="application/json")])
        for batch in broker.reader(["notes"]).fetch():
            for change in batch:
                print(change.offset, change.op.name)

A broker may be used from several threads, and its folder by several processes at once; a `Writer`,
a `Reader`, a `Subscription`, a `Processor`, `Letters` and a `Lookup` belong to one thread each, a
`Publisher` and a `WorkMember` to any number.
"""

from ensign_core.broker.backup import Manifest
from ensign_core.broker.broker import Broker, TopicInfo
from ensign_core.broker.delivery import Processor, Subscription
from ensign_core.broker.events import EVENT_BYTES_MAX, Event, Received, received
from ensign_core.broker.grants import Granted, Grants
from ensign_core.broker.keeping import Kept
from ensign_core.broker.keys import KeyInfo, Keys
from ensign_core.broker.large import (
    Assembler,
    Chunked,
    ClaimCheck,
    FolderStore,
    Large,
    S3Store,
    Store,
)
from ensign_core.broker.letters import Letters, Lookup, dead_letter_topic
from ensign_core.broker.pipelines import Pipelines
from ensign_core.broker.policy import Deduplication, Retention, TopicPolicy
from ensign_core.broker.publisher import Publisher
from ensign_core.broker.reader import Reader
from ensign_core.broker.receipts import Acked, Nacked, Receipt
from ensign_core.broker.restore import restore
from ensign_core.broker.verify import Problem, Verified
from ensign_core.broker.work import Delivery, WorkMember
from ensign_core.broker.writer import Writer
from ensign_core.engine.budget import DiskBudget

__all__ = [
    "EVENT_BYTES_MAX", "Acked", "Assembler", "Broker", "Chunked", "ClaimCheck", "Deduplication",
    "Delivery", "DiskBudget", "Event", "FolderStore", "Granted", "Grants", "Kept", "KeyInfo",
    "Keys", "Large", "Letters", "Lookup", "Manifest", "Nacked", "Pipelines", "Problem", "Processor",
    "Publisher", "Reader", "Receipt", "Received", "Retention", "S3Store", "Store", "Subscription",
    "TopicInfo", "TopicPolicy", "Verified", "WorkMember", "Writer", "dead_letter_topic", "received",
    "restore",
]  # fmt: skip
