"""Requests of pages: garbage is refused by name, at each door, and never causes an error of the server."""

import contextlib
import io

import flask
import pytest
from doors import DOORS
from flask_site import site

from libbus import _core
from libbus.compat.flask_sse import ServerSentEventsBlueprint


@pytest.fixture(params=sorted(DOORS))
def door(request):
    with contextlib.closing(DOORS[request.param]()) as door:
        yield door


MOST = _core.PAGE_FILTERS_MAX


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ("&".join(f"filter=a/{n}" for n in range(MOST + 1)), "FILTER", f"at most {MOST} filters"),
        ("filter=a%00b", "FILTER", "NUL"),
        ("filter=%ff", "QUERY", "filter: "),
        (b"filter=\xff\xfe", "QUERY", "filter: "),
        ("filter=a&new=%ff", "QUERY", "new: "),
        ("filter=a&after=%ff", "QUERY", "after: "),
        *(
            (f"filter=a&last={value}", "START", "last: ")
            for value in ("", "x", "-1", "1.5", "1e3", "%00", "9" * 20, "9" * 5000, "1_0", "%D9%A1")
        ),
        *(
            (f"filter=a&since={value}", "START", "since: ")
            for value in ("", "x", "-1", "nan", "inf", "-inf", "%00", "1e10", "1e400", "9" * 5000)
        ),
        ("filter=a&last=%ff", "QUERY", "last: "),
        ("filter=a&since=%ff", "QUERY", "since: "),
    ],
)
def test_a_malformed_argument_is_refused_by_name(door, query, code, named):
    with door.opened(query) as answer:
        assert answer.status_code == 400
        error = answer.json["error"]
        assert error["code"] == code
        assert named in error["message"]
        assert len(error["message"]) < 300


ANY_ID = ["no id", "1-", "-", "0-" + "f" * 40, "1-1kk", "1" * 5000, "é"]


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("&".join(f"filter=a/{n}&new=a/{n}" for n in range(MOST)), {}),
        (f"filter=a&last={10**19 - 1}", {}),
        ("filter=a&last=00", {}),
        ("filter=a&since=0", {}),
        ("filter=a&since=999999999", {}),
        ("filter=a&since=8999999999", {}),
        ("filter=a&raw=%ff", {}),
        (b"filter=a&\xff=\xff&&=&%", {}),
        ("filter=a&after=a%00b", {}),
        *((f"filter=a&after={id}", {}) for id in ANY_ID),
        *(("filter=a", {"Last-Event-ID": id}) for id in ANY_ID),
    ],
)
def test_unusual_but_valid_requests_are_served(door, query, headers):
    with door.opened(query, headers=headers) as answer:
        assert answer.status_code == 200
        assert b"event: hb" in next(iter(answer.response))


@pytest.mark.parametrize(
    "query", ["channel=" + "x" * 2000, "channel=%ff", b"channel=\xff", "channel=a&after=%ff"]
)
def test_a_malformed_channel_is_refused_by_name(query):
    app, sse = flask.Flask(__name__), ServerSentEventsBlueprint()
    app.register_blueprint(sse, url_prefix="/stream")
    raw = query.encode() if isinstance(query, str) else query
    answer = app.test_client().get(
        "/stream", environ_overrides={"QUERY_STRING": raw.decode("latin-1")}
    )
    assert answer.status_code == 400
    named = "after: " if b"after" in raw else "channel: "
    assert named in answer.json["error"]["message"]


def test_the_query_of_a_view_is_its_own():
    app, bus = site()

    @app.get("/mine")
    def mine():
        return bus.sse("a")

    client = app.test_client()
    for raw, status in (("x=\xff&filter=\xff", 200), ("after=\xff", 400)):
        answer = client.get("/mine", environ_overrides={"QUERY_STRING": raw})
        with contextlib.closing(answer):
            assert answer.status_code == status
    bus.close()


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_a_view_names_as_many_filters_as_a_page_may_have(count):
    filters = [f"a/{n}" for n in range(count)]
    app, bus = site()
    with app.test_request_context(), pytest.raises(ValueError, match=r"sse\(\)"):
        bus.sse(*filters)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"topic": "in/a", "value": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"topic": "in/a", "value": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"topic": "in/\\ud800", "value": 1}',
        b'{"topic": "in/a", "value": "\\ud800"}',
        b'{"topic": "in/a", "value": {"\\ud800": 1}}',
        b'{"topic": "in/a", "value": ' + b"9" * 5000 + b"}",
        b'{"topic": "' + b"in/" * 1000 + b'", "value": 1}',
        b"\xff",
        b'{"topic": "in/a", "value": "\xff"}',
        b"",
        b"\0",
    ],
    ids=lambda body: str(len(body)),
)
def test_a_malformed_publish_is_refused_with_a_reason(body):
    app, bus = site(allow_publish=["in/#"])
    headers = {"X-Libbus": "1", "Content-Type": "application/json"}
    answer = app.test_client().post("/bus/publish", data=body, headers=headers)
    assert answer.status_code == (400 if body else 411)
    assert answer.json["error"]["message"]
    bus.close()


@pytest.mark.parametrize(("size", "status"), [(10_000, 204), (10**7, 413), (10**12, 413)])
def test_a_body_that_cannot_be_a_value_is_refused_before_it_is_read(size, status):
    app, bus = site(allow_publish=["#"], max_payload=10_000)
    text = b'{"topic": "a", "value": "' + b"\\u0000" * 1600 + b'"}'
    body = io.BytesIO(text.ljust(10_000))
    given = {"X-Libbus": "1", "Content-Type": "application/json"}
    answer = app.test_client().post(
        "/bus/publish",
        input_stream=body,
        headers=given,
        environ_overrides={"CONTENT_LENGTH": str(size)},
    )
    assert answer.status_code == status
    assert (body.tell() == 0) == (status == 413)
    bus.close()


def test_a_body_of_unknown_length_is_refused():
    app, bus = site(allow_publish=["#"])
    given = {"X-Libbus": "1", "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    answer = app.test_client().post(
        "/bus/publish",
        input_stream=io.BytesIO(b'{"topic": "a", "value": 1}'),
        headers=given,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (answer.status_code, answer.json["error"]["code"]) == (411, "BODY")
    bus.close()
