from blinker import signal

door = signal("door")


def open_door():
    door.send("open")


# task
def test_the_door_is_told():
    received = []
    with door.connected_to(received.append):
        open_door()
    assert received == ["open"]


# end
