import fakeredis


def open_door(r):
    r.publish("door", "open")


# task
def test_open_door_publishes():
    r = fakeredis.FakeRedis()
    pubsub = r.pubsub()
    pubsub.subscribe("door")
    pubsub.get_message()
    open_door(r)
    assert pubsub.get_message()["data"] == b"open"


# end
