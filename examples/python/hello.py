"""hello.py: two ways to listen, one way to speak.   pip install libbus && python hello.py"""

import libbus

with libbus.Bus() as bus:  # stays inside this process; listen() and dial() join it to others

    @bus.on("room/+/temperature")  # runs on one Python thread, in order
    def show(msg):
        print(msg.topic, "is", msg.value["celsius"])

    bus.publish("room/kitchen/temperature", {"celsius": 21.5}, retain=True)
    bus.flush(timeout=1)  # show() has run

    with bus.subscribe("room/#") as rooms:  # a queue of its own, read where you stand
        msg = rooms.recv(timeout=1)  # the kept value comes first, then live ones
        print(msg.topic, "was", msg.value["celsius"])
