"""Lines that a type checker has to refuse: for mypy and for pyright an ignore that is not needed is an error too. Nobody runs this."""

from typing import TypedDict

from typing_extensions import assert_type

import libbus

bus = libbus.Bus()


class Limits(TypedDict):
    low: float


def heard(msg: libbus.Message[float]) -> None: ...


bus.subscribe("a", full="drop_oldset")  # type: ignore[call-overload]
bus.subscribe("a", start=3)  # type: ignore[call-overload]
bus.subscribe("a", start="oldest")  # type: ignore[call-overload]
bus.subscribe("a", workers=2)  # type: ignore[call-overload]
bus.subscribe("a", callback=heard, type=Limits)  # type: ignore[arg-type]
bus.subscribe("a", callback=heard, group="g")  # type: ignore[call-overload]
bus.subscribe(1)  # type: ignore[call-overload]
bus.subscribe("a", max_bytes="4096")  # type: ignore[call-overload]
bus.on("a", heard, full="drop_oldset")  # type: ignore[call-overload]
bus.serve("a", heard, full="drop_oldset")  # type: ignore[call-overload]
bus.publish_raw("a", b"", encoding="xml")  # type: ignore[arg-type]
bus.publish("a", object())  # type: ignore[arg-type]
bus.publish("a", 1, True)  # type: ignore[call-arg]
bus.publisher("a", 1.0)  # type: ignore[call-arg]
bus.get("a", 1, Limits)  # type: ignore[call-overload]
bus.wait("a", kept="no")  # type: ignore[call-overload]
libbus.Bus("a", on_fork="ask")  # type: ignore[arg-type]
libbus.Bus("a", will=("w", 1))  # type: ignore[arg-type]
libbus.last("2")  # type: ignore[arg-type]
libbus.packb(object())  # type: ignore[arg-type]
bus.stats()["offerd"]  # type: ignore[typeddict-item]
bus.subscribe("a").recv().topic = "b"  # type: ignore[misc]
bus.subscribe("a", type=Limits).recv().value["high"]  # type: ignore[typeddict-item]
assert_type(bus.get("a"), libbus.Message)  # type: ignore[assert-type]


@bus.on  # type: ignore[call-overload]
def unheard(msg: libbus.Message) -> None: ...


@bus.serve  # type: ignore[call-overload]
def unserved(msg: libbus.Message) -> None: ...
