"""libbus: publish and subscribe, inside a process and between processes. No server to run.

    import libbus

    with libbus.Bus() as bus:
        bus.listen("ipc:///tmp/room.sock")                    # other processes may dial it
        with bus.subscribe("room/#") as rooms:
            bus.publish("room/kitchen/temperature", 21.5)
            for msg in rooms.iter(timeout=1):
                print(msg.topic, msg.value)

Every error is a BusError; its text says what to do next.
"""

from libbus._bus import Bus, Will
from libbus._callbacks import Callback
from libbus._core import (
    VERSION as __version__,
)
from libbus._core import (
    AddressError,
    ArgumentError,
    BusError,
    BusTimeoutError,
    ClosedError,
    DecodeError,
    Ext,
    FilterError,
    ForkError,
    FullError,
    LimitError,
    Link,
    Message,
    NobodyError,
    NotSupportedError,
    StateError,
    TooBigError,
    TopicError,
    TransportError,
    filter_check,
    filter_covers,
    packb,
    unpackb,
)
from libbus._progress import Progress, ProgressValue
from libbus._publisher import Publisher
from libbus._request import Reply, ReplyError
from libbus._role import Role
from libbus._start import Start, after, last, oldest, since
from libbus._subscription import Subscription

__all__ = [
    "AddressError",
    "ArgumentError",
    "Bus",
    "BusError",
    "BusTimeoutError",
    "Callback",
    "ClosedError",
    "DecodeError",
    "Ext",
    "FilterError",
    "ForkError",
    "FullError",
    "LimitError",
    "Link",
    "Message",
    "NobodyError",
    "NotSupportedError",
    "Progress",
    "ProgressValue",
    "Publisher",
    "Reply",
    "ReplyError",
    "Role",
    "Start",
    "StateError",
    "Subscription",
    "TooBigError",
    "TopicError",
    "TransportError",
    "Will",
    "__version__",
    "after",
    "filter_check",
    "filter_covers",
    "last",
    "oldest",
    "packb",
    "since",
    "unpackb",
]
