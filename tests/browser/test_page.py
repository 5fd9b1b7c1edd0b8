"""Real pages in a real browser, fed by real programs."""

import collections
import json
import os
import signal
import socket
import time
from textwrap import dedent

import pytest
from demo import DASHBOARD
from page import until
from patience import WATCHDOG
from programs import HELLO, HOST_SENSORS, ipc_address, started  # noqa: F401 (a fixture)
from webserver import Server

import libbus

pytestmark = pytest.mark.xdist_group("page")

GUNICORN = ("--worker-class", "gthread", "--threads", "8")

APP = """
    import os
    from flask import Flask, redirect, render_template_string, request
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, allow=["room/#", "many/#"], dial=DIAL, heartbeat=HEARTBEAT, max_pages=LIMIT)

    @app.get("/")
    def page():
        return render_template_string("<!doctype html><title>page</title>{{ bus.script() }}")

    @app.get("/copied")
    def copied():
        return render_template_string("<!doctype html><script src=/copies/libbus.js></script>")

    @app.get("/copies/libbus.js")
    def copy():
        return app.view_functions["libbus.static"](filename="libbus.js")

    @app.get("/publish/<path:topic>")
    def publish(topic):
        bus.publish(topic, topic)
        return {}

    @app.after_request
    def sign(answer):
        answer.headers["Pid"] = str(os.getpid())
        return answer

    guests = set()

    @app.get("/login")
    def login():
        return "<!doctype html>Your name?"

    @app.get("/login/<name>")
    def let_in(name):
        guests.add(name)
        return {}

    @app.get("/guests/events")
    def events_of_guests():
        return bus.sse("room/#") if guests else redirect("/login")

    @app.get("/held/events")
    def hold_back():
        events = {"Content-Type": "text/event-stream"}
        return ("", events) if "libbus-ask" in request.args else ("", 502)

    @app.get("/<int:status>/events")
    def refuse(status):
        return "no", status
"""


@pytest.fixture
def served(tmp_path):
    servers = []

    def serve(dial=(), heartbeat=WATCHDOG, limit=None, options=GUNICORN, stderr=None):
        source = (
            dedent(APP)
            .replace("DIAL", repr(dial))
            .replace("HEARTBEAT", repr(heartbeat))
            .replace("LIMIT", repr(limit))
        )
        (tmp_path / "app.py").write_text(source)
        servers.append(Server(tmp_path, *options, stderr=stderr))
        servers[0].start()
        return servers[0]

    yield serve
    for server in servers:
        server.__exit__()


STATE = "document.getElementById('badge').dataset.state"

BEGIN = """
    window.heard = [];
    window.states = [];
    window.bus = libbus(...arguments);
    bus.onstate = (state, reason) => states.push([state, reason]);
    window.hear = (filter) => bus.on(filter, (value, msg) => heard.push([filter, value, msg.kept]));
"""


def visit(browser, url):
    """Opens the page with an empty console: the page before it may warn until the very end."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(url)


def warnings(browser):
    """What libbus.js wrote into the console since the last look, without the browser's own lines."""
    return [line["message"] for line in browser.get_log("browser") if "libbus: " in line["message"]]


def reason(browser, part):
    """Waits until a reason had that part, if only for a moment; returns its state and itself."""
    having = f"states.findLast(([, reason]) => reason.includes({json.dumps(part)}))"
    until(browser, f"{having} !== undefined", True)
    return browser.execute_script(f"return {having}")


def test_the_21_5_that_hello_publishes_untagged_is_a_number_on_a_page(browser, served, ipc):
    with started(HELLO, ipc):
        server = served(dial=ipc)
        browser.get(server.url)
        browser.execute_script(BEGIN + "hear('room/+/temperature')")
        until(browser, "heard.length > 0 && heard[0][1]", 21.5)
        assert browser.execute_script("return typeof heard[0][1]") == "number"


def test_all_filters_of_a_page_share_one_connection_and_each_listener_gets_its_own(browser, served):
    server = served(limit=1)
    browser.get(server.url)
    browser.execute_script(
        BEGIN + "for (let i = 0; i < 20; i++) hear('many/' + i); hear('many/+'); hear('room/#')"
    )
    until(browser, "bus.state", "live")
    with server.page("/publish/many/7"):
        until(browser, "heard.length", 2)
    assert browser.execute_script("return heard") == [
        ["many/7", "many/7", False],
        ["many/+", "many/7", False],
    ]
    assert browser.execute_script("return states") == [["live", ""]]


def test_a_filter_that_is_not_allowed_closes_with_the_reason(browser, served):
    server = served()
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('secret/#')")
    until(browser, "bus.state", "closed")
    said = browser.execute_script("return states.at(-1)[1]")
    assert "'secret/#'" in said
    assert "init_app(allow=[...])" in said


def test_a_page_without_a_place_waits_for_one(browser, served):
    server = served(limit=1, heartbeat=0.5)
    browser.get(server.url)
    with server.page("/bus/events?filter=room/%23"):
        browser.execute_script(BEGIN + "hear('room/#')")
        until(browser, "bus.state", "reconnecting")
    until(browser, "bus.state", "live")


def test_the_reason_for_waiting_vanishes_when_a_place_frees_up(browser, served):
    server = served(limit=2)
    browser.get(server.url)
    with server.page("/bus/events?filter=a") as refused:
        assert refused.status == 403
    with server.page("/bus/events?filter=room/1"), server.page("/bus/events?filter=room/2"):
        browser.execute_script(BEGIN + "hear('room/#')")
        state, said = reason(browser, "(max_pages=2)")
        assert state == "reconnecting"
    until(browser, "bus.state", "live")
    assert browser.execute_script("return bus.reason") == ""
    states = browser.execute_script("return states")
    assert [states[0], states[-1]] == [["reconnecting", ""], ["live", ""]]
    assert ["reconnecting", said] in states
    server.kill()
    until(browser, f"states.length > {len(states)}", True)
    assert browser.execute_script(f"return states[{len(states)}]") == ["reconnecting", ""]


def test_workers_say_in_state_console_and_log_that_they_hold_no_page(browser, served, tmp_path):
    with open(tmp_path / "stderr", "w") as stderr:
        server = served(limit=0, options=("-w", "2"), stderr=stderr)
    knocks = collections.Counter()
    visit(browser, server.url)
    browser.execute_script(BEGIN + "hear('room/#')")
    _, said = reason(browser, "max_pages=0")
    assert "leave it out" in said
    deadline = time.monotonic() + WATCHDOG
    while sorted(knocks.values())[-2:-1] < [3]:  # each of two workers refuses three pages more
        assert time.monotonic() < deadline, knocks
        with server.page("/bus/events?filter=room/%23") as refused:
            assert refused.status == 503
            assert json.load(refused)["error"]["message"] == said
            knocks[refused.headers["Pid"]] += 1
    until(browser, "bus.retries > 2", True)
    states = browser.execute_script("return states")
    assert {state for state, _ in states} == {"reconnecting"}
    assert ["reconnecting", said] in states
    assert " ".join(warnings(browser)).count(json.dumps("libbus: " + said)) == 1
    assert (tmp_path / "stderr").read_text().count(said) == len(knocks) == 2


def test_a_page_without_onstate_still_warns_in_the_console(browser, served):
    server = served(limit=0)
    visit(browser, server.url)
    browser.execute_script("window.bus = libbus('/bus'); bus.on('room/x', () => 0)")
    until(browser, "bus.reason.includes('max_pages=0')", True)
    (warning,) = warnings(browser)
    assert browser.execute_script("return bus.reason") in warning


def test_a_login_page_in_place_of_events_is_named_until_it_lets_the_page_in(browser, served):
    server = served()
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('room/#')", "/guests")
    state, said = reason(browser, "log in again")
    assert state == "reconnecting"
    assert f"{server.url}/login answers with text/html instead of events" in said
    with server.page("/login/me") as let_in:
        assert let_in.status == 200
    until(browser, "bus.state", "live")
    assert browser.execute_script("return bus.reason") == ""


@pytest.mark.parametrize(
    ("prefix", "state", "said"),
    [
        ("/elsewhere", "closed", "answers 404 NOT FOUND: give libbus() the url_prefix"),
        ("/401", "closed", "answers 401 UNAUTHORIZED: log in again"),
        ("/403", "closed", "answers 403 FORBIDDEN: log in again"),
        ("/502", "reconnecting", "answers 502 BAD GATEWAY"),
        ("/204", "reconnecting", "instead of events"),
    ],
)
def test_an_answer_that_is_not_libbus_s_is_named(browser, served, prefix, state, said):
    server = served()
    visit(browser, server.url)
    browser.execute_script(BEGIN + "hear('room/#')", prefix)
    found, whole = reason(browser, said)
    assert found == state
    assert whole.startswith(f"{server.url}{prefix}/events ")
    assert len(warnings(browser)) == 1


def test_a_stream_that_does_not_open_though_the_server_has_a_place_is_named(browser, served):
    server = served()
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('room/#')", "/held")
    state, _ = reason(browser, f"{server.url} has a place, but no events arrive")
    assert state == "reconnecting"


def test_a_copy_of_the_script_elsewhere_takes_the_default_prefix(browser, served):
    server = served()
    browser.get(f"{server.url}/copied")
    browser.execute_script(BEGIN + "hear('room/#')")
    until(browser, "bus.state", "live")


def test_a_server_that_is_gone_is_the_reason(browser, served):
    server = served()
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('room/#')")
    until(browser, "bus.state", "live")
    server.kill()
    server.listener.close()
    state, said = reason(browser, f"no answer from {server.url}")
    assert (state, said.count("the server is down")) == ("reconnecting", 1)


def test_a_server_that_never_answers_is_the_reason(browser, served):
    server = served()
    browser.get(server.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        browser.execute_script(BEGIN + "hear('room/#')", address)
        state, _ = reason(browser, f"no answer from {address} within 10 s")
        assert state == "reconnecting"
        reason(browser, f"no answer from {address} within 5 s")
        browser.execute_script("bus.close()")
    assert browser.execute_script("return [bus.state, bus.reason]") == ["closed", ""]


def test_a_page_that_goes_stale_twice_says_why_twice_and_warns_once(browser, served):
    server = served()
    visit(browser, server.url)
    browser.execute_script(BEGIN + "hear('room/#')", "/bus", {"staleAfter": 200})
    stale = ["stale", "connected, but no message for 0.2 s"]
    until(browser, "states", [["live", ""], stale])
    with server.page("/publish/room/x") as published:
        assert published.status == 200
    until(browser, "states", [["live", ""], stale] * 2)
    assert len(warnings(browser)) == 1


def test_a_server_that_falls_silent_is_noticed(browser, served):
    server = served(heartbeat=0.5)
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('room/#')")
    until(browser, "bus.state", "live")
    os.killpg(server.process.pid, signal.SIGSTOP)  # the connection stays, and says nothing
    state, _ = reason(browser, f"no sign of life from {server.url} for 1.25 s")
    assert state == "reconnecting"
    os.killpg(server.process.pid, signal.SIGCONT)
    until(browser, "bus.state", "live")
    assert browser.execute_script("return bus.reason") == ""


class Sensors:
    """host_sensors, until it is killed."""

    def __init__(self, bus):
        self.bus = bus

    def __enter__(self):
        self.program = started(HOST_SENSORS, "--bus", self.bus)
        self.process = self.program.__enter__()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.program.__exit__(None, None, None)


@pytest.fixture
def name():
    return f"test-page-{os.getpid()}"


def dashboard(bus):
    return Server(
        DASHBOARD,
        *GUNICORN,
        app="app:create_app()",
        DASHBOARD_BUS=bus,
        DASHBOARD_SECRET_KEY="the same",
    )


def test_the_dashboard_goes_stale_without_sensors_and_live_again_by_itself(browser, name):
    with dashboard(name) as server:
        with Sensors(name):
            browser.get(server.url)
            until(browser, "document.querySelectorAll('.tile').length > 2", True)
            assert until(browser, STATE, "live")[-1] == "live"
        until(browser, STATE, "stale")
        with Sensors(name):
            assert until(browser, STATE, "live")[-1] == "live"


def test_the_dashboard_reconnects_to_a_restarted_server_by_itself(browser, name):
    with Sensors(name), dashboard(name) as server:
        browser.get(server.url)
        until(browser, STATE, "live")
        browser.execute_script("window.unreloaded = true")
        server.kill()
        until(browser, STATE, "reconnecting")
        browser.execute_script("window.restarted = performance.now()")
        server.start()
        until(browser, STATE, "live")
        until(browser, "unreloaded && last > restarted", True)


# Time on the page is what a test says: a gap of twenty seconds takes none.
PLOT_TOOLS = """
    window.clock = 100;
    performance.now = () => clock * 1000;

    window.rgb = (variable) => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = `var(${variable})`;
        const found = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        probe.remove();
        return found;
    };

    window.image = () => {
        const canvas = document.querySelector(".plot canvas");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    };

    /* Where the canvas has this colour: [first, last] of each run of columns, and the middle row of it. */
    window.painted = ([red, green, blue], { data, width } = image()) => {
        const columns = new Set(), rows = [];
        for (let i = 0; i < data.length; i += 4)
            if (data[i] === red && data[i + 1] === green && data[i + 2] === blue && data[i + 3] === 255) {
                columns.add((i / 4) % width);
                rows.push(Math.floor(i / 4 / width));
            }
        const runs = [];
        for (const column of [...columns].sort((a, b) => a - b))
            if (runs.length > 0 && runs.at(-1)[1] === column - 1)
                runs.at(-1)[1] = column;
            else
                runs.push([column, column]);
        return { runs, row: rows[rows.length >> 1] };
    };

    window.opacity = (column, row, { data, width } = image()) => data[(row * width + column) * 4 + 3];

    /* The colours of the screen down one column, [colour, rows] for each run of rows. */
    window.column = async (png, x, from, until) => {
        const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
        const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const ctx = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
        ctx.drawImage(picture, 0, 0);
        const runs = [];
        for (let y = from; y < until; y++) {
            const colour = ctx.getImageData(x, y, 1, 1).data.join();
            if (runs.length > 0 && runs.at(-1)[0] === colour)
                runs.at(-1)[1]++;
            else
                runs.push([colour, 1]);
        }
        return runs;
    };
"""


@pytest.fixture
def plotted(browser, name):
    """The dashboard with one line: 50 % for four seconds, twenty of silence, 50 % for two, until now."""
    with dashboard(name) as server, libbus.Bus(name) as bus:
        browser.get(server.url)
        browser.execute_script(PLOT_TOOLS)
        until(browser, STATE, "live")
        for time_s, percent in [(100, 50), (102, 50.01), (104, 50), (124, 50.01), (126, 50)]:
            browser.execute_script("clock = arguments[0]", time_s)
            bus.publish("host/here/memory/used_percent", percent)
            until(browser, "Number(document.querySelector('[data-topic]')?.dataset.value)", percent)
        until(browser, "painted(rgb('--c0')).runs.length", 2)
        yield browser
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_plot_of_the_dashboard_has_its_line_and_nothing_in_the_gap(plotted):
    [before, after], row = plotted.execute_script(
        "const { runs, row } = painted(rgb('--c0')); return [runs, row]"
    )
    whole, gap = after[1] - before[0], after[0] - before[1]
    assert gap / whole == pytest.approx(20 / 26, abs=0.02)

    def tint(column):
        return plotted.execute_script("return opacity(...arguments)", column, row + 6)

    assert 0 < tint(sum(before) // 2) < 128
    assert 0 < tint(sum(after) // 2) < 128
    assert tint((before[1] + after[0]) // 2) == 0


def test_a_plot_of_the_dashboard_takes_the_colours_of_another_theme(plotted):
    def switch(change):
        plotted.execute_script("window.old = ['--c0', '--soft', '--line'].map(rgb)")
        change()
        until(plotted, "old.filter((colour) => painted(colour).runs.length > 0).length", 0)
        new = "['--c0', '--soft', '--line'].filter((name) => painted(rgb(name)).runs.length > 0).length"
        until(plotted, new, 3)

    def prefer(theme):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        plotted.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer("light")
    until(plotted, "rgb('--c0').join()", "37,99,235")
    switch(lambda: prefer("dark"))
    switch(lambda: plotted.execute_script("document.getElementById('theme').click()"))


def test_a_plot_that_is_destroyed_leaves_nothing_and_is_not_drawn_again(plotted):
    label = "label: () => { window.labelled++; return ''; }"
    plotted.execute_script(f"""
        window.labelled = 0;
        window.box = document.querySelector(".canvas").cloneNode(false);
        document.querySelector(".plot").append(box);
        window.plot = livePlot(box, {{ range: [0, 1], {label} }});
        plot.draw({{ now: 0, span: 1, marks: [0], lines: [] }});""")
    assert plotted.execute_script("return labelled") > 0
    redrawn = """
        const done = arguments[0], before = labelled;
        document.documentElement.dataset.theme = "dark";
        box.style.width = `${box.clientWidth - 10}px`;
        dispatchEvent(new Event("resize"));
        requestAnimationFrame(() => requestAnimationFrame(() => done(labelled > before)))"""
    assert plotted.execute_async_script(redrawn)
    plotted.execute_script("plot.destroy()")
    assert plotted.execute_script("return box.childElementCount") == 0
    assert not plotted.execute_async_script(redrawn.replace('"dark"', '"light"'))


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_a_plot_of_the_dashboard_is_sharp_after_a_resize(plotted, ratio):
    wide = plotted.execute_script("return document.querySelector('.plot canvas').clientWidth")
    size = {"width": 700, "height": 1000, "deviceScaleFactor": ratio, "mobile": False}
    plotted.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(plotted, f"document.querySelector('.plot canvas').clientWidth < {wide}", True)

    def rows_of_the_screen():
        """Down the middle of the gap, where there is only grid, but for the labels below it."""
        x, top, bottom = plotted.execute_script("""
            const [before, after] = painted(rgb("--c0")).runs;
            const box = document.querySelector(".plot canvas").getBoundingClientRect();
            return [box.left * devicePixelRatio + (before[1] + after[0]) / 2,
                    box.top * devicePixelRatio, (box.bottom - 24) * devicePixelRatio].map(Math.round)""")
        png = plotted.get_screenshot_as_base64()
        return plotted.execute_script("return column(...arguments)", png, x, top, bottom + 3)

    deadline = time.monotonic() + WATCHDOG
    while True:
        runs = rows_of_the_screen()
        (card, _), *grid = runs[::2]
        lines = runs[1::2]
        if {colour for colour, _ in grid} == {card} and len({colour for colour, _ in lines}) == 1:
            break
        assert time.monotonic() < deadline, f"neither card nor grid: {runs}"
    assert len(lines) >= 3
    assert {rows for _, rows in lines} == {round(ratio)}
