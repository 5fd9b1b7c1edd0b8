"""Publishing from a page of an app that Flask-WTF protects."""

import contextlib
import importlib.util

import flask
import pytest
from flask_site import opened, site
from webserver import messages

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(
        not importlib.util.find_spec("flask_wtf"), reason="Flask-WTF is not installed: ./dev web"
    ),
]

OURS = {"X-Libbus": "1"}
BODY = {"topic": "in/a", "value": 1}


@pytest.fixture
def protected():
    """The app, a browser with a session, and the token that {{ csrf_token() }} gave its page."""
    from flask_wtf.csrf import CSRFProtect

    app, bus = site(allow_publish=["in/#"])
    protect = CSRFProtect(app)

    @app.get("/")
    def page():
        return flask.render_template_string("{{ csrf_token() }}")

    client = app.test_client()
    with contextlib.closing(bus):
        yield app, protect, client, client.get("/").text


def publish(client, **headers):
    return client.post("/bus/publish", json=BODY, headers=OURS | headers).status_code


def test_a_page_publishes_with_its_token_and_not_without(protected):
    app, _, client, token = protected
    assert publish(client) == 400
    assert publish(client, **{"X-CSRFToken": token + "x"}) == 400
    assert publish(app.test_client(), **{"X-CSRFToken": token}) == 400  # another session
    with opened(app, "/bus/events?filter=%23", client) as answer:  # reading needs none
        assert publish(client, **{"X-CSRFToken": token}) == 204
        assert next(messages(answer.response))["topic"] == "in/a"


def test_an_app_that_exempts_the_bus_keeps_the_header_of_libbus(protected):
    app, protect, client, _ = protected
    protect.exempt(app.blueprints["libbus"])
    assert publish(client) == 204
    assert client.post("/bus/publish", json=BODY).status_code == 403
    assert publish(client, Origin="http://evil.example") == 403
