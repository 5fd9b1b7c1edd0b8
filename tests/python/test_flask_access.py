"""Live pages of libbus.flask: the rights to get and to publish topics, and the allowed sites."""

import contextlib
import gc
import json
import weakref

import flask
import pytest
from flask_site import opened, site, until
from patience import WATCHDOG
from webserver import events, messages, stream

# --- rights to get topics ---------------------------------------------------------------------------------


def guarded(**options):
    app, bus = site(**options)
    asked = []

    @bus.authorize
    def may(action, what):
        asked.append((action, what))
        return what.split("/")[-1] != "secret" and flask.session.get("user") != "nobody"

    @app.get("/login/<name>")
    def login(name):
        flask.session["user"] = name
        return "in"

    return app, bus, asked


def test_a_denied_topic_never_arrives_by_any_filter():
    app, bus, asked = guarded()
    bus.publish("a/secret", "kept", retain=True)
    bus.publish("a/open", "kept", retain=True)
    bus.publish("a/open", "before")
    with opened(app, "/bus/events?filter=%23") as answer:
        id = next(event for event in stream(answer.response) if event.id).id
    answers = app.extensions["libbus"].answers
    for query in (
        "filter=%23",
        "filter=a/%2b",
        "filter=a/%23&filter=a/open&raw",
        "filter=%23&last=9",
        f"filter=%23&after={id}",
        f"filter=a/%23&new=a/%23&after={id}",
    ):
        until(lambda: not answers._pages)  # the last page has left, and has no more questions
        asked.clear()
        with opened(app, f"/bus/events?{query}") as answer:
            seen = stream(answer.response)
            bus.publish("a/secret", "live")
            bus.publish("a/open", "last")
            found, denied = [], []
            while not denied or not any("last" in event.data for event in found):
                event = next(seen)
                (denied if event.name == "denied" else found).append(event)
            (told,) = [json.loads(event.data) for event in denied]
            assert told["topic"] == "a/secret"
            assert told["message"]
            assert not any("secret" in event.data or "live" in event.data for event in found)
        assert asked.count(("receive", "a/secret")) == 1
        assert asked.count(("receive", "a/open")) == 1
    bus.close()


def test_a_filter_that_is_denied_is_refused_with_a_reason():
    app, bus, _ = guarded()
    answer = app.test_client().get("/bus/events?filter=a/secret")
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "NOT_AUTHORIZED")
    assert answer.json["error"]["filter"] == "a/secret"
    bus.close()


def test_authorize_sees_the_session_of_the_page():
    app, bus, _ = guarded()
    users = []
    bus._authorizer = lambda action, what: (
        users.append((flask.session.get("user"), flask.request.path)) or True
    )
    with contextlib.ExitStack() as stack:
        for name in ("ann", "bob"):
            client = app.test_client()
            client.get(f"/login/{name}")
            answer = stack.enter_context(opened(app, "/bus/events?filter=a", client))
            found = messages(answer.response)
            bus.publish("a", 1)
            next(found)
    assert set(users) == {("ann", "/bus/events"), ("bob", "/bus/events")}
    bus.close()


@pytest.mark.parametrize("raised", [KeyError("user"), SystemExit(1)], ids=["error", "exit"])
def test_an_authorize_that_fails_denies_and_is_logged(caplog, raised):
    app, bus = site()

    @bus.authorize
    def may(action, what):
        if action == "receive" and what == "bad":
            raise raised
        return True

    with opened(app, "/bus/events?filter=%23") as answer:
        found = events(answer.response)
        bus.publish("bad", 1)
        bus.publish("good", 1)
        seen = {}
        while not {"denied", "message"} <= set(seen):
            seen.update([next(found)])
        assert json.loads(seen["message"])["topic"] == "good"
        assert json.loads(seen["denied"])["topic"] == "bad"
    assert "authorize failed for topic 'bad', so the page does not receive it" in caplog.text
    bus.close()


def test_authorize_is_asked_about_a_view_too():
    app, bus, _ = guarded(allow=[])

    @app.get("/mine")
    def mine():
        return bus.sse("a/#", raw=True)

    with opened(app, "/mine") as answer:
        found = (event for event in stream(answer.response) if event.name == "message")
        bus.publish("a/secret", "hidden")
        bus.publish("a/open", "shown")
        assert next(found).data == "shown"
    bus.close()


def test_one_function_decides():
    _, bus, _ = guarded()
    with pytest.raises(RuntimeError, match="already"):
        bus.authorize(lambda action, what: True)


def test_answers_about_a_page_end_with_it():
    app, bus, _ = guarded()
    with opened(app, "/bus/events?filter=%23") as answer:
        next(events(answer.response))
        answers = app.extensions["libbus"].answers
        assert len(answers._pages) == 1
    until(lambda: not answers._pages)
    bus.close()


def test_an_app_ends_after_questions_about_a_page():
    app, bus, _ = guarded()
    with opened(app, "/bus/events?filter=%23") as answer:
        bus.publish("a/open", 1)
        next(messages(answer.response))
    push = app.extensions["libbus"].push
    ended = weakref.ref(app)
    del app, bus, answer, _

    def gone():
        gc.collect()
        return ended() is None

    until(gone)
    assert push.closed


# --- publishing from a page ---------------------------------------------------------------------------------

OURS = {"X-Libbus": "1"}


def publishing(**options):
    app, bus = site(allow_publish=["in/#"], **options)
    return app, bus, app.test_client()


def test_a_page_publishes_on_allowed_topics():
    _, bus, client = publishing()
    with bus.subscribe("#") as got:
        answer = client.post(
            "/bus/publish", json={"topic": "in/a", "value": {"x": 1}}, headers=OURS
        )
        assert (answer.status_code, answer.data) == (204, b"")
        msg = got.recv(timeout=WATCHDOG)
        assert (msg.topic, msg.value) == ("in/a", {"x": 1})
    bus.close()


def test_pages_publish_nothing_by_default():
    app, _ = site()
    assert app.test_client().post("/bus/publish", json={}, headers=OURS).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        ({"topic": "out/a", "value": 1}, OURS, 403, "NOT_ALLOWED"),
        ({"topic": "in/a", "value": 1}, {}, 403, "HEADER"),
        ({"topic": "in/#", "value": 1}, OURS, 400, "TOPIC"),
        ({"topic": "", "value": 1}, OURS, 400, "TOPIC"),
        ({"topic": "in/\0", "value": 1}, OURS, 400, "TOPIC"),
        ({"topic": "in/a"}, OURS, 400, "BODY"),
        ({"topic": 1, "value": 1}, OURS, 400, "BODY"),
        ([], OURS, 400, "BODY"),
        ({"topic": "in/a", "value": 2**70}, OURS, 400, "VALUE"),
        ({"topic": "in/a", "value": 1}, {**OURS, "Origin": "http://evil.example"}, 403, "ORIGIN"),
        ({"topic": "in/a", "value": 1}, {**OURS, "Origin": "null"}, 403, "ORIGIN"),
        ({"topic": "in/a", "value": 1}, {**OURS, "Sec-Fetch-Site": "cross-site"}, 403, "ORIGIN"),
        ({"topic": "in/a", "value": 1}, {**OURS, "Sec-Fetch-Site": "same-site"}, 403, "ORIGIN"),
        ({"topic": "in/a", "value": 1}, {**OURS, "Host": "evil.example"}, 403, "HOST"),
    ],
)
def test_a_refused_publish_gives_the_reason_and_publishes_nothing(body, headers, status, code):
    _, bus, client = publishing()
    with bus.subscribe("#") as got:
        answer = client.post("/bus/publish", json=body, headers=headers)
        assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
        assert got.recv_nowait() is None
    bus.close()


def test_a_form_of_another_site_publishes_nothing():
    _, bus, client = publishing()
    with bus.subscribe("#") as got:
        answer = client.post("/bus/publish", data={'{"topic": "in/a", "value": 1, "x': '": 1}'})
        assert answer.status_code == 403
        answer = client.post("/bus/publish", data="{}", content_type="text/plain", headers=OURS)
        assert answer.status_code == 400
        assert got.recv_nowait() is None
    bus.close()


def test_authorize_decides_about_publishing_too():
    app, bus, asked = guarded(allow_publish=["#"])
    client = app.test_client()
    for topic, status in (("a/secret", 403), ("a/open", 204)):
        answer = client.post("/bus/publish", json={"topic": topic, "value": 1}, headers=OURS)
        assert answer.status_code == status
    assert asked == [("publish", "a/secret"), ("publish", "a/open")]
    bus.close()


# --- other sites ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["shop.example", "api.shop.example", "other.example:80"])
def test_the_names_that_flask_knows_are_ours_too(host):
    app, bus = site()
    app.config.update(SERVER_NAME="shop.example", TRUSTED_HOSTS=["other.example", ".shop.example"])
    answer = app.test_client().get("/bus/events?filter=a&libbus-ask", headers={"Host": host})
    assert answer.status_code == 200, answer.text
    bus.close()


def test_a_view_of_your_own_is_refused_to_a_foreign_host_too():
    app, bus = site()

    @app.get("/mine")
    def mine():
        return bus.sse("a")

    answer = app.test_client().get("/mine", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "HOST")
    assert "init_app(hosts=[" in answer.json["error"]["message"]
    bus.close()
