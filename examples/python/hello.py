"""hello.py: two ways to subscribe, one way to publish.   pip install libbus && python hello.py"""

import libbus

with libbus.Bus() as bus:  # private to this process; listen() and dial() connect it to others

    @bus.on("room/+/temperature")  # runs on one Python thread, in order
    def show(msg):
        print(msg.topic, "is", msg.value["celsius"])

    bus.publish("room/kitchen/temperature", {"celsius": 21.5}, retain=True)
    bus.flush(timeout=1)  # show() has run

    with bus.subscribe("room/#") as rooms:  # a mailbox that this thread reads
        msg = rooms.recv(timeout=1)  # the kept value first, then new ones
        print(msg.topic, "was", msg.value["celsius"])
