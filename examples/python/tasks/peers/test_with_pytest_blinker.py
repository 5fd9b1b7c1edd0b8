from blinker import signal

door = signal("door")


def open_door():
    door.send("open")


# task
def test_open_door_publishes():
    received = []
    with door.connected_to(received.append):
        open_door()
    assert received == ["open"]


# end
