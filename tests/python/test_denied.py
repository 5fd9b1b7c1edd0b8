"""A page never gets a topic that authorize denies, by whatever request. At each door, on a named and a private bus."""

import asyncio
import contextlib
import contextvars
import json

import pytest
from doors import DOORS, AsgiDoor
from webserver import messages, stream


@pytest.fixture(params=[f"{door}-{bus}" for door in sorted(DOORS) for bus in ("private", "named")])
def at_door(request, tmp_path):
    door, bus = request.param.split("-")
    options = {"name": "test", "directory": tmp_path} if bus == "named" else {"history": 1000}
    with contextlib.ExitStack() as stack:

        def make(authorize):
            made = DOORS[door](authorize=authorize, **options)
            return stack.enter_context(contextlib.closing(made))

        yield make


def last_id(door, query):
    with door.opened(query) as answer:
        return next(event for event in stream(answer.response) if event.id).id


def seen(answer):
    """Events up to "the end", or up to four heartbeats."""
    found, beats = [], 0
    for event in stream(answer.response):
        found.append(event)
        beats += event.name == "hb"
        if "the end" in event.data or beats == 4:
            return found
    raise AssertionError(f"the stream ended: {found}")


def ways(id):
    """Queries, and the header Last-Event-ID."""
    filters = [
        "",  # all of allow
        "filter=%23",
        "filter=a/%2B",
        "filter=a/%2b",
        "filter=a/%23",
        "filter=%2B/%2B",
        "filter=a/open&filter=%23",
        "filter=a/secret",
        "filter=%2B/secret",
        "filter=a/secret/%23",
        "filter=a%2Fsecret",
        "filter=%61%2f%73ecret",
        "filter=a%252Fsecret",
        "filter=%2523",
        "filter=a/%252B",
        "filter=a/secret%00",
        "filter=a/open%00&filter=a/secret",
        "FILTER=a/secret&filter=a/open",
        "filter=a/open&new=a/secret",
        "filter=a/open;filter=a/secret",
    ]
    pasts = ["last=99", "since=3600", f"after={id}", f"after={id}k", "after=0-0", "raw"]
    for query in filters:
        yield query, None
    for query in ("", "filter=%23", "filter=a/%2B", "filter=a/open&new=%23&filter=%23"):
        for past in pasts:
            yield f"{query}&{past}", None
            yield f"{query}&raw&{past}", None
        yield query, id
        yield f"{query}&new=%23", id
        yield f"{query}&raw&last=99&since=3600", id + "k"


def test_no_request_gets_a_denied_topic(at_door):
    def may(action, what):
        return "secret" not in what

    door = at_door(may)
    door.publish("a/open", "first")
    id = last_id(door, "filter=%23")
    door.publish("a/secret", "hidden", retain=True)
    door.publish("a/secret/b", "hidden")
    door.publish("a/secret", "hidden", headers={"event": "message", "id": "0-0"})
    refused = 0
    for query, header in ways(id):
        headers = {"Last-Event-ID": header} if header else {}
        with door.opened(query, headers=headers) as answer:
            if answer.status_code != 200:
                refused += 1
                assert answer.status_code in (400, 403), query
                continue
            door.publish("a/secret", "hidden")
            door.publish("a/open", "the end")
            found = seen(answer)
        assert not [event for event in found if "hidden" in event.data], query
    assert refused >= 7


def test_revoked_topics_are_not_replayed(at_door):
    denied = set()

    def may(action, what):
        return what not in denied

    door = at_door(may)
    door.publish("a/x", "kept", retain=True)
    with door.opened("filter=a/%23") as answer:
        found = stream(answer.response)
        assert next(event for event in found if event.name == "message").data
        door.publish("a/x", "live")
        id = next(event for event in found if event.id and "live" in event.data).id
    denied.add("a/x")
    door.publish("a/x", "missed")
    for query, header in (
        (f"filter=a/%23&after={id}", None),
        (f"filter=a/%23&after={id}k", None),
        ("filter=a/%23&last=9&raw", None),
        ("filter=a/%23&since=60", None),
        ("filter=a/%23", id),
        ("filter=a/%23", None),
    ):
        headers = {"Last-Event-ID": header} if header else {}
        with door.opened(query, headers=headers) as answer:
            door.publish("a/open", "the end")
            told = seen(answer)
        assert not [event for event in told if event.name == "message" and "a/x" in event.data]
        assert not [event for event in told if event.data in ("kept", "live", "missed")]


def test_a_filter_that_is_denied_is_refused_with_a_reason(at_door):
    door = at_door(lambda action, what: action != "subscribe")
    for query in ("filter=a", "filter=a&libbus-ask"):
        with door.opened(query) as answer:
            assert answer.status_code == 403
            error = answer.json["error"]
            assert (error["code"], error["filter"]) == ("NOT_AUTHORIZED", "a")


def test_an_unawaited_coroutine_denies(at_door):
    async def later():
        return True

    door = at_door(lambda action, what: later() if action == "receive" else True)
    with door.opened("filter=a/%23") as answer:
        door.publish("a/x", "hidden")
        denied = next(event for event in stream(answer.response) if event.name == "denied")
        assert json.loads(denied.data)["topic"] == "a/x"


# --- libbus.asgi alone ------------------------------------------------------------------------------------------------

user = contextvars.ContextVar("user", default=None)


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_authorize_runs_in_the_context_of_its_request(kind):
    asked = []

    def may(scope, action, what):
        asked.append((action, what, user.get(), scope["path"]))
        return what != "a/secret"

    async def may_later(scope, action, what):
        await asyncio.sleep(0)
        return may(scope, action, what)

    with contextlib.closing(AsgiDoor()) as door:
        pages = door.app
        pages._authorize = may_later if kind == "async" else may

        async def signed_in(scope, receive, send):
            user.set("ann")
            await pages(scope, receive, send)

        door.app = signed_in
        with door.opened("filter=%23") as answer:
            door.publish("a/secret", 1)
            door.publish("a/open", 2)
            assert next(messages(answer.response))["value"] == 2
        door.app = pages
    assert asked == [
        (action, what, "ann", "/bus/events")
        for action, what in (("subscribe", "#"), ("receive", "a/secret"), ("receive", "a/open"))
    ]
