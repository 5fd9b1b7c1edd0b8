"""Uses a libbus that was built without mbedTLS: links between processes work, over ipc and tcp. Run by packages.py."""

import tempfile
import time

import libbus


def main():
    with tempfile.TemporaryDirectory() as folder:
        for address in ("tcp://127.0.0.1:0", f"ipc://{folder}/socket"):
            with libbus.Bus() as here, libbus.Bus() as there:
                link = here.listen(address)
                there.dial(link.url)
                with here.subscribe("room/#") as room:
                    while (message := room.recv_nowait()) is None:
                        there.publish("room/door", "open")
                        time.sleep(0.01)
                    assert message.value == "open"
                print(link.url)


main()
