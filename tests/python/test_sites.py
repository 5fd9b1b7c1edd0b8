"""Live pages and other sites: refused requests, and the sites that may read answers. At each door."""

import contextlib
import socket

import pytest
from doors import DOORS

from libbus import _guard


@pytest.fixture(params=sorted(DOORS))
def at_door(request):
    with contextlib.ExitStack() as stack:

        def make(**options):
            return stack.enter_context(contextlib.closing(DOORS[request.param](**options)))

        yield make


def ask(door, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with door.opened("filter=a&libbus-ask", method=method, headers=headers) as answer:
        code = answer.json["error"]["code"] if answer.status_code == 403 else None
        return answer.status_code, code, dict(answer.headers)


OWN = [
    "localhost",
    "localhost:5000",
    "127.0.0.1:8000",
    "[::1]:8000",
    "192.168.1.7",
    "raspberrypi",
    "pi.local:8000",
    "pi.lan",
    "app.localhost",
    "nas.home.arpa",
    "web:8000",
    socket.gethostname(),
    "shop.example.com",
    "SHOP.example.com.",
    "www.shop.example.com",
    "named.example",
]


@pytest.mark.parametrize("host", OWN, ids=range(len(OWN)))
def test_a_known_host_is_served(at_door, host):
    door = at_door(hosts=[".shop.example.com", "named.example"])
    assert ask(door, Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil_name.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "shop.example.com.evil.org",
        "notshop.example.com",
        "127.0.0.1@evil.example",
        "[::1].evil.example",
    ],
)
def test_a_name_that_another_site_pointed_here_is_refused(at_door, host):
    door = at_door(hosts=["shop.example.com"])
    assert ask(door, Host=host, Sec_Fetch_Site="same-origin")[:2] == (403, "HOST")
    assert ask(door, Host=host, Origin=f"http://{host}")[:2] == (403, "HOST")


@pytest.fixture
def no_full_name():
    """Clears the cached full name of the machine before and after the test."""
    _guard._full_name.cache_clear()
    yield
    _guard._full_name.cache_clear()


@pytest.mark.usefixtures("no_full_name")
def test_no_name_server_is_asked_about_a_name_that_is_known_or_foreign(at_door, monkeypatch):
    def slow():
        raise AssertionError("the name server was asked")

    monkeypatch.setattr(socket, "getfqdn", slow)
    door = at_door(hosts=["shop.example.com", socket.gethostname() + ".example.com"])
    assert ask(door, Host="shop.example.com")[0] == 200
    assert ask(door, Host=socket.gethostname() + ".example.com")[0] == 200
    assert ask(door, Host="evil.example")[0] == 403


@pytest.mark.usefixtures("no_full_name")
def test_the_full_name_of_the_machine_is_ours(at_door, monkeypatch):
    full = socket.gethostname() + ".example.com"
    monkeypatch.setattr(socket, "getfqdn", lambda: full)
    door = at_door()
    assert ask(door, Host=full)[0] == 200
    assert ask(door, Host="other." + full)[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://localhost"}, 200),  # TLS ends in front of this server
        ({"Origin": "http://localhost:80"}, 200),
        ({"Origin": "http://localhost", "Host": "localhost:80"}, 200),
        ({"Origin": "https://localhost", "Host": "localhost:443"}, 200),
        ({"Origin": "https://localhost", "Host": "localhost:80"}, 403),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "http://localhost:9"}, 403),
        ({"Origin": "http://localhost:9", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://[::1]:8000", "Host": "[::1]:8000"}, 200),
        ({"Origin": "http://[::1]:9", "Host": "[::1]:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "file://localhost"}, 403),
        ({"Origin": "http://localhost@evil.example"}, 403),
        ({"Origin": "http://localhost:80@evil.example"}, 403),
        # A proxy sends its own Host, and the page is of the public name.
        ({"Origin": "https://shop.example", "Host": "127.0.0.1:8000"}, 200),
        ({"Origin": "https://shop.example:8443", "Host": "127.0.0.1:8000"}, 403),
        ({"Origin": "https://desk.example:8443", "Host": "127.0.0.1:8000"}, 200),
        ({"Origin": "https://desk.example", "Host": "127.0.0.1:8000"}, 403),
        # It passes the name on, and the page is of another one below.
        ({"Origin": "https://blog.below.example", "Host": "app.below.example"}, 403),
        ({"Origin": "https://friend.example"}, 200),
        ({"Origin": "https://friend.example", "Sec_Fetch_Site": "cross-site"}, 200),
        ({"Origin": "https://Friend.example:443"}, 200),
        ({"Origin": "http://friend.example"}, 403),
        ({"Origin": "https://friend.example:444"}, 403),
        ({"Origin": "https://a.friend.example"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused_unless_they_are_named(at_door, headers, status):
    door = at_door(
        hosts=["shop.example", "desk.example:8443", ".below.example"],
        origins=["https://friend.example"],
    )
    assert ask(door, **headers)[:2] == (status, None if status == 200 else "ORIGIN")


@pytest.mark.parametrize("origin", ["*", "friend.example", "https://", "null", "https://a/b"])
def test_a_malformed_origin_raises_in_the_app(at_door, origin):
    with pytest.raises(ValueError, match="origins"):
        at_door(origins=[origin])


FRIEND = "https://friend.example"


@pytest.mark.parametrize(
    "query", ["filter=a", "filter=a&libbus-ask", "filter=a/%23/b", "filter=a&last=x"]
)
def test_pages_of_an_allowed_site_may_read_the_answer(at_door, query):
    door = at_door(origins=[FRIEND])
    with door.opened(query, headers={"Origin": FRIEND}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert answer.headers["Vary"] == "Origin"
    for origin in ("https://other.example", "null"):
        with door.opened(query, headers={"Origin": origin}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Vary"] == "Origin"


def test_other_sites_cannot_read_the_answer(at_door):
    door = at_door()
    _, _, headers = ask(door, Origin=FRIEND)
    assert not [name for name in headers if name.startswith("Access-Control")]


def test_a_preflight_request_lists_the_methods_and_headers_for_allowed_sites(at_door):
    door = at_door(origins=[FRIEND])
    status, _, headers = ask(door, "OPTIONS", Origin=FRIEND, Access_Control_Request_Method="GET")
    assert status in (200, 204)
    assert headers["Access-Control-Allow-Origin"] == FRIEND
    assert "X-Libbus" in headers["Access-Control-Allow-Headers"]
    assert "POST" in headers["Access-Control-Allow-Methods"]
    _, _, headers = ask(door, "OPTIONS", Origin="https://other.example")
    assert not [name for name in headers if name.startswith("Access-Control")]


def test_a_page_of_an_allowed_site_publishes():
    with contextlib.closing(DOORS["flask"](origins=[FRIEND], allow_publish=["#"])) as door:
        client, given = door.app.test_client(), {"Origin": FRIEND}
        answer = client.options("/bus/publish", headers=given)
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        given["X-Libbus"] = "1"
        answer = client.post("/bus/publish", json={"topic": "a", "value": 1}, headers=given)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


def test_a_view_s_events_may_be_read_by_an_allowed_site():
    with contextlib.closing(DOORS["flask"](origins=[FRIEND])) as door:

        @door.app.get("/mine")
        def mine():
            return door.bus.sse("a")

        with door.opened(path="/mine", headers={"Origin": FRIEND}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
