"""Bus values in the sessions of a web UI, with a recording framework. ./dev taipy has the same with Taipy."""

import array
import itertools
import logging
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from patience import WATCHDOG

import libbus
from libbus import _sessions
from libbus._sessions import Events, Newest, Out, PerSession, Rows, Sessions

LOG = logging.getLogger("libbus.taipy")


class Framework:
    """Sessions are dicts of variables; every update is recorded with its assignments."""

    def __init__(self):
        self.states = {}
        self.connections = {}
        self.updates = []
        self._connection = itertools.count()

    def open(self, name):
        """A page whose session has begun."""
        self.connect(name)
        self.begun.add(name)

    def connect(self, name):
        self.states.setdefault(name, SimpleNamespace(name=name))
        self.connections[name] = frozenset({str(next(self._connection))})

    def leave(self, name):
        del self.connections[name]

    def live(self):
        return dict(self.connections)

    def update(self, session, change):
        self.updates.append((session, {}))
        change(self.states[session])

    def assign(self, state, var, value):
        if var == "unknown":
            raise NameError("there is no variable unknown")
        setattr(state, var, value)
        if self.updates and self.updates[-1][0] == state.name:
            self.updates[-1][1][var] = value

    def take(self):
        taken, self.updates = self.updates, []
        return taken


@pytest.fixture
def bus():
    with libbus.Bus() as bus:
        yield bus


@pytest.fixture
def ui():
    return Framework()


@pytest.fixture
def sessions(bus, ui):
    made = Sessions(bus, ui, 10, LOG)
    ui.begun = made.begun
    yield made
    made.close()


@pytest.fixture
def without_packages(monkeypatch):
    monkeypatch.setattr(_sessions, "package", lambda name: None)


def bind(sessions, topic_filter, var, field=None, convert=None):
    shown = Newest((topic_filter,), var, sessions.log, field, convert)
    sessions.show(shown, None, 0)


def series(sessions, topic_filter, var, maxlen=3, field=None):
    sessions.show(Rows((topic_filter,), var, sessions.log, field, maxlen), None, 0)


def publish(bus, topic, *values):
    for value in values:
        bus.publish(topic, value)
    bus.flush(WATCHDOG)


def test_many_messages_are_one_update_for_each_session(bus, ui, sessions):
    bind(sessions, "a", "a")
    bind(sessions, "b", "b")
    ui.open("one")
    ui.open("two")
    publish(bus, "a", *range(50))
    publish(bus, "b", *range(50))
    sessions.tick()
    assert ui.take() == [("one", {"a": 49, "b": 49}), ("two", {"a": 49, "b": 49})]


def test_a_tick_without_news_sends_nothing(bus, ui, sessions):
    bind(sessions, "a", "a")
    ui.open("one")
    publish(bus, "a", 1)
    sessions.tick()
    ui.take()
    sessions.tick()
    assert ui.take() == []


def test_a_later_session_gets_the_present_values(bus, ui, sessions):
    bind(sessions, "a", "a")
    ui.open("one")
    publish(bus, "a", 1)
    sessions.tick()
    ui.take()
    ui.open("two")
    sessions.tick()
    assert ui.take() == [("two", {"a": 1})]


def test_a_new_session_has_the_values_before_its_first_update(bus, ui, sessions):
    bind(sessions, "a", "a")
    bind(sessions, "b", "b")
    publish(bus, "a", 1)
    ui.open("one")
    sessions.begin("one", ui.states["one"])
    assert ui.states["one"].a == 1
    assert not hasattr(ui.states["one"], "b")
    sessions.tick()
    assert ui.take() == []


def test_a_session_that_has_not_begun_is_not_updated(bus, ui, sessions):
    bind(sessions, "a", "a")
    own(sessions)
    heard = []
    sessions.hear(Events(("a",), lambda state, msg: heard.append(msg.value), 10, sessions.log), 0)
    ui.connect("one")
    publish(bus, "a", 1)
    sessions.tick()
    sessions.begin("one", ui.states["one"])
    ui.states["one"].user = "ann"
    publish(bus, "a", 2)
    sessions.tick()  # its initialisation is under way
    assert ui.take() == heard == []
    assert ui.states["one"].a == 1
    ui.open("one")
    publish(bus, "a", 3)
    sessions.tick()
    assert ui.states["one"].a == 3
    assert heard == [3]


def test_a_retained_value_is_shown_whichever_of_both_started_first(bus, ui, sessions):
    bus.publish("a", 1, retain=True)
    bind(sessions, "a", "a")
    bus.flush(WATCHDOG)
    ui.open("one")
    sessions.tick()
    assert ui.take() == [("one", {"a": 1})]


def test_without_a_session_nothing_is_sent_and_the_newest_value_stays(bus, ui, sessions):
    bind(sessions, "a", "a")
    publish(bus, "a", 1, 2)
    sessions.tick()
    assert ui.take() == []
    ui.open("one")
    sessions.tick()
    assert ui.take() == [("one", {"a": 2})]


def test_a_session_that_left_is_forgotten_and_gets_all_when_it_is_back(bus, ui, sessions):
    bind(sessions, "a", "a")
    ui.open("one")
    publish(bus, "a", 1)
    sessions.tick()
    ui.leave("one")
    sessions.tick()
    assert not sessions.known
    ui.take()
    ui.open("one")
    sessions.tick()
    assert ui.take() == [("one", {"a": 1})]


def test_a_page_that_connects_anew_between_two_ticks_gets_all(bus, ui, sessions):
    bind(sessions, "a", "a")
    ui.open("one")
    publish(bus, "a", 1)
    sessions.tick()
    ui.take()
    ui.open("one")
    sessions.tick()
    assert ui.take() == [("one", {"a": 1})]


def test_a_filter_with_wildcards_is_a_table_of_topics(bus, ui, sessions, without_packages):
    bind(sessions, "room/+", "rooms")
    ui.open("one")
    publish(bus, "room/b", 2)
    publish(bus, "room/a", 1, 3)
    sessions.tick()
    assert ui.states["one"].rooms == {"topic": ["room/a", "room/b"], "value": [3, 2]}


def test_a_dict_becomes_columns_and_a_missing_key_becomes_none(bus, ui, sessions, without_packages):
    bind(sessions, "room/+", "rooms")
    ui.open("one")
    publish(bus, "room/a", {"t": 1})
    publish(bus, "room/b", {"t": 2, "h": 50})
    sessions.tick()
    assert ui.states["one"].rooms == {
        "topic": ["room/a", "room/b"],
        "t": [1, 2],
        "h": [None, 50],
    }


def test_a_series_keeps_its_last_rows_with_their_times(bus, ui, sessions, without_packages):
    series(sessions, "t", "history", maxlen=3)
    ui.open("one")
    publish(bus, "t", 1, 2, 3, 4)
    sessions.tick()
    history = ui.states["one"].history
    assert history["value"] == [2, 3, 4]
    assert history["time"] == sorted(history["time"])
    assert all(each.tzinfo is not None for each in history["time"])


def test_a_field_of_a_dict_is_shown_alone(bus, ui, sessions, without_packages):
    series(sessions, "t", "history", field="v")
    bind(sessions, "t", "now", field="v")
    ui.open("one")
    publish(bus, "t", {"v": 1, "w": 2})
    sessions.tick()
    assert ui.states["one"].history["value"] == [1]
    assert ui.states["one"].now == 1


def test_with_pandas_a_table_is_a_data_frame(bus, ui, sessions, monkeypatch):
    made = []
    pandas = SimpleNamespace(DataFrame=lambda columns: made.append(columns) or "frame")
    monkeypatch.setattr(_sessions, "package", {"pandas": pandas, "numpy": None}.get)
    series(sessions, "t", "history")
    ui.open("one")
    ui.open("two")
    publish(bus, "t", 1)
    sessions.tick()
    assert ui.states["one"].history == ui.states["two"].history == "frame"
    assert len(made) == 1  # for both sessions


def test_an_array_is_a_separate_numpy_array(bus, ui, sessions):
    numpy = pytest.importorskip("numpy")
    bind(sessions, "wave", "wave")
    bind(sessions, "sound", "sound")
    ui.open("one")
    publish(bus, "wave", numpy.arange(6, dtype="float32").reshape(2, 3))
    publish(bus, "sound", {"rate": 8, "left": array.array("h", [1, -1])})
    sessions.tick()
    wave = ui.states["one"].wave
    assert wave.dtype == "float32" and wave.shape == (2, 3) and wave.flags.owndata
    assert ui.states["one"].sound["left"].tolist() == [1, -1]


def test_an_array_is_a_list_without_numpy(bus, ui, sessions, without_packages):
    bind(sessions, "wave", "wave")
    ui.open("one")
    publish(bus, "wave", array.array("d", [0.5, 1.5]))
    sessions.tick()
    assert ui.states["one"].wave == [0.5, 1.5]


def test_convert_makes_the_value_once_for_all_sessions(bus, ui, sessions):
    calls = []
    bind(sessions, "room/+", "hottest", convert=lambda all: calls.append(all) or max(all.values()))
    ui.open("one")
    ui.open("two")
    publish(bus, "room/a", 1)
    publish(bus, "room/b", 2)
    sessions.tick()
    assert ui.states["one"].hottest == ui.states["two"].hottest == 2
    assert calls == [{"room/a": 1, "room/b": 2}]


# --- errors -----------------------------------------------------------------------------------------------


def test_an_error_is_logged_with_its_topic_and_the_others_are_shown(bus, ui, sessions, caplog):
    bind(sessions, "bad", "bad", convert=lambda value: 1 / value)
    bind(sessions, "lost", "unknown")
    bind(sessions, "good", "good")
    ui.open("one")
    publish(bus, "bad", 0)
    publish(bus, "lost", 1)
    publish(bus, "good", 1)
    sessions.tick()
    assert ui.states["one"].good == 1
    lines = [(each.name, each.getMessage()) for each in caplog.records]
    assert lines == [
        ("libbus.taipy", "bad: no value for bad"),
        ("libbus.taipy", "lost: cannot set unknown"),
    ]


def test_a_payload_that_cannot_be_read_is_left_out(bus, ui, sessions, caplog, without_packages):
    bind(sessions, "room/+", "rooms", field="t")
    series(sessions, "room/+", "history", field="t")
    ui.open("one")
    publish(bus, "room/a", 5)
    publish(bus, "room/b", {"t": 1})
    sessions.tick()
    assert ui.states["one"].rooms == {"topic": ["room/b"], "value": [1]}
    assert ui.states["one"].history["value"] == [1]
    assert all(each.getMessage().startswith("room/a: ") for each in caplog.records)


def test_an_error_that_lasts_is_logged_once_in_a_while(bus, ui, sessions, caplog):
    bind(sessions, "lost", "unknown")
    ui.open("one")
    ui.open("two")
    for n in range(5):
        publish(bus, "lost", n)
        sessions.tick()
    assert len(caplog.records) == 1


def test_a_message_function_that_raises_is_logged_and_the_next_is_called(bus, ui, sessions, caplog):
    heard = []

    def hear(state, msg):
        if msg.value == 1:
            raise ValueError("one")
        heard.append((state.name, msg.value))

    sessions.hear(Events(("alarm",), hear, 10, sessions.log), 0)
    ui.open("a")
    sessions.tick()
    publish(bus, "alarm", 1, 2)
    sessions.tick()
    assert heard == [("a", 2)]
    assert caplog.records[0].getMessage().startswith("alarm: ")


# --- messages for functions ----------------------------------------------------------------------------------


def test_every_open_session_gets_each_message_in_one_update(bus, ui, sessions):
    heard = []
    events = Events(("alarm",), lambda state, msg: heard.append((state.name, msg.value)), 10, None)
    sessions.hear(events, 0)
    ui.open("a")
    ui.open("b")
    sessions.tick()
    ui.take()
    publish(bus, "alarm", 1, 2)
    ui.open("late")
    sessions.tick()
    assert heard == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [name for name, _ in ui.take()] == ["a", "b"]


def test_messages_that_are_too_many_are_dropped_and_logged(bus, ui, sessions, caplog):
    heard = []
    events = Events(("alarm",), lambda state, msg: heard.append(msg.value), 2, sessions.log)
    sessions.hear(events, 0)
    ui.open("a")
    sessions.tick()
    publish(bus, "alarm", 1, 2, 3)
    sessions.tick()
    assert heard == [2, 3]
    assert "raise maxlen=" in caplog.records[0].getMessage()


# --- topics of a session ----------------------------------------------------------------------------------


def own(sessions, var="inbox"):
    def make(topic_filter):
        return Newest((topic_filter,), var, sessions.log, None, None)

    sessions.per_session.append(
        PerSession(lambda state: state.user and f"user/{state.user}", var, make, "empty")
    )


def ask_again(sessions):
    for session in sessions.known.values():
        for each in session.own.values():
            each.ask_at = 0.0


def test_a_session_sees_its_own_topic_and_no_other(bus, ui, sessions):
    own(sessions)
    for name in ("ann", "bob", "nobody"):
        ui.open(name)
        ui.states[name].user = name if name != "nobody" else None
    sessions.tick()
    publish(bus, "user/ann", "for ann")
    publish(bus, "user/bob", "for bob")
    sessions.tick()
    assert ui.states["ann"].inbox == "for ann"
    assert ui.states["bob"].inbox == "for bob"
    assert ui.states["nobody"].inbox == "empty"


def test_a_session_that_leaves_a_topic_gets_nothing_more_of_it(bus, ui, sessions):
    own(sessions)
    ui.open("one")
    ui.states["one"].user = "ann"
    sessions.tick()
    publish(bus, "user/ann", "first")
    sessions.tick()
    assert ui.states["one"].inbox == "first"
    publish(bus, "user/ann", "second")
    ui.states["one"].user = None
    sessions.tick()
    assert ui.states["one"].inbox == "empty"
    publish(bus, "user/ann", "third")
    ask_again(sessions)
    sessions.tick()
    assert ui.states["one"].inbox == "empty"


@pytest.mark.parametrize("user", [None, "bob"])
def test_a_session_that_was_away_keeps_no_value_of_a_topic_it_has_left(bus, ui, sessions, user):
    own(sessions)
    ui.open("one")
    ui.states["one"].user = "ann"
    sessions.tick()
    publish(bus, "user/ann", "a secret")
    sessions.tick()
    assert ui.states["one"].inbox == "a secret"
    ui.leave("one")
    sessions.tick()
    ui.states["one"].user = user
    ui.open("one")
    sessions.tick()
    assert ui.states["one"].inbox == "empty"
    ui.take()
    ask_again(sessions)
    sessions.tick()
    assert [changed for _, changed in ui.take()] == [{}]  # once


def test_a_session_whose_choose_fails_gets_no_values(bus, ui, sessions, caplog):
    own(sessions)
    ui.open("one")  # has no user
    publish(bus, "user/None", "secret")
    sessions.tick()
    ask_again(sessions)
    sessions.tick()
    assert ui.states["one"].inbox == "empty"
    assert "so this session gets no values of its topics" in caplog.records[0].getMessage()


def test_subscriptions_of_a_session_end_with_it(bus, ui, sessions):
    own(sessions)
    ui.open("one")
    ui.states["one"].user = "ann"
    sessions.tick()
    (mine,) = next(iter(sessions.known.values())).own.values()
    callback = mine.callback
    assert not callback.closed
    ui.leave("one")
    sessions.tick()
    assert callback.closed


@pytest.mark.parametrize("end", ["the session", "all"])
def test_a_session_that_ends_while_it_is_asked_leaves_no_subscription(
    bus, ui, sessions, monkeypatch, end
):
    made, subscribe = [], sessions.subscribe

    def keep(*arguments):
        made.append(subscribe(*arguments))
        return made[-1]

    def choose(state):
        if end == "all":
            sessions.close()
        else:
            sessions.begin("one", state)  # its page was loaded again
        return "user/ann"

    monkeypatch.setattr(sessions, "subscribe", keep)
    sessions.per_session.append(
        PerSession(choose, "inbox", lambda f: Newest((f,), "inbox", sessions.log, None, None), None)
    )
    ui.open("one")
    sessions.tick()
    (callback,) = made
    assert callback.closed


# --- from a session to the bus --------------------------------------------------------------------------------


def out(sessions, var, topic, convert=None):
    sessions.outs[var] = Out(topic, True, convert)


def change(ui, sessions, name, var, value):
    """Changes a variable as a framework does: the state already has the value."""
    setattr(ui.states[name], var, value)
    sessions.changed(name, var, value, lambda: ui.states[name])


def test_a_change_is_published_and_the_other_sessions_follow(bus, ui, sessions):
    bind(sessions, "set", "setpoint")
    out(sessions, "setpoint", "set")
    ui.open("a")
    ui.open("b")
    publish(bus, "set", 1)
    sessions.tick()
    ui.take()
    with bus.subscribe("set") as heard:
        change(ui, sessions, "a", "setpoint", 2)
        bus.flush(WATCHDOG)
        sessions.tick()
        assert [msg.value for msg in heard.iter(timeout=0)] == [2]
    assert ui.take() == [("b", {"setpoint": 2})]
    assert bus.get("set").value == 2


def test_a_slider_that_moves_on_is_not_set_back_by_its_own_value(bus, ui, sessions):
    bind(sessions, "set", "setpoint")
    out(sessions, "setpoint", "set")
    ui.open("a")
    publish(bus, "set", 1)
    sessions.tick()
    change(ui, sessions, "a", "setpoint", 2)
    bus.flush(WATCHDOG)
    ui.states["a"].setpoint = 3  # it moves while the tick comes
    sessions.tick()
    assert ui.states["a"].setpoint == 3
    publish(bus, "set", 9)  # another program
    sessions.tick()
    assert ui.states["a"].setpoint == 9


def test_the_first_value_of_a_topic_does_not_set_back_the_slider_it_came_from(bus, ui, sessions):
    bind(sessions, "set", "setpoint")
    out(sessions, "setpoint", "set")
    ui.open("a")
    sessions.tick()
    change(ui, sessions, "a", "setpoint", 2)
    bus.flush(WATCHDOG)
    ui.states["a"].setpoint = 3  # it moves while the tick comes
    sessions.tick()
    assert ui.states["a"].setpoint == 3
    ui.open("a")  # its page reconnects and shows nothing
    sessions.tick()
    assert ui.states["a"].setpoint == 2


def test_values_assigned_by_the_bus_are_not_published(bus, ui, sessions):
    bind(sessions, "set", "setpoint")
    out(sessions, "setpoint", "set")
    assign = ui.assign

    def assign_and_tell(state, var, value):
        assign(state, var, value)
        sessions.changed(state.name, var, value, lambda: state)

    ui.assign = assign_and_tell
    ui.open("a")
    with bus.subscribe("set") as heard:
        publish(bus, "set", 1)
        sessions.tick()
        sessions.begin("a", ui.states["a"])
        bus.flush(WATCHDOG)
        assert [msg.value for msg in heard.iter(timeout=0)] == [1]
    assert ui.states["a"].setpoint == 1


def test_a_change_on_a_topic_of_the_session_and_one_that_cannot_be_published(
    bus, ui, sessions, caplog
):
    out(sessions, "note", lambda state: state.topic)
    ui.open("a")
    ui.states["a"].topic = "notes/a"
    with bus.subscribe("notes/#") as heard:
        change(ui, sessions, "a", "note", "hello")
        change(ui, sessions, "a", "note", object())
        ui.states["a"].topic = None
        change(ui, sessions, "a", "note", "to nobody")
        assert [(msg.topic, msg.value) for msg in heard.iter(timeout=0)] == [("notes/a", "hello")]
    (line,) = (each.getMessage() for each in caplog.records)
    assert line == "notes/a: a change of note was not published"


def test_no_message_carries_the_name_of_a_session(bus, ui, sessions):
    out(sessions, "setpoint", "set")
    ui.open("a secret name")
    with bus.subscribe("set") as heard:
        change(ui, sessions, "a secret name", "setpoint", 2)
        msg = heard.recv(timeout=WATCHDOG)
    assert "secret" not in repr(msg.headers)


# --- the rate, and the end --------------------------------------------------------------------------------


class Clock:
    """Replaces time in libbus._sessions: sleeping and updating advance it."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(_sessions, "time", SimpleNamespace(monotonic=lambda: self.now))

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(
    ("cost", "share", "rate"), [(0.001, 0.3, 10), (0.06, 0.3, 5), (0.3, 0.3, 1)]
)
def test_updates_keep_their_rate_and_their_share_of_the_time(
    bus, ui, sessions, monkeypatch, cost, share, rate
):
    clock = Clock(monkeypatch)
    begins = []

    def tick():
        begins.append(clock.now)
        clock.sleep(cost)

    monkeypatch.setattr(sessions, "tick", tick)
    sessions.run(lambda: clock.now < 120, clock.sleep)
    gaps = [after - before for before, after in itertools.pairwise(begins)]
    assert min(gaps) >= 1 / rate - 1e-9
    assert max(gaps) <= 1 / rate + 1e-9
    assert cost / min(gaps) <= share + 1e-9


def test_a_failed_tick_is_logged_and_the_next_one_runs(bus, ui, sessions, caplog):
    calls = []

    def live():
        calls.append(1)
        raise RuntimeError("no")

    ui.live = live
    sessions.run(lambda: len(calls) < 3, lambda seconds: None)
    assert len(calls) == 3
    assert caplog.records[0].getMessage() == "an update of the sessions failed"


@pytest.mark.parametrize("end", ["sessions", "bus"])
def test_the_ticker_ends_with_the_link_and_with_the_bus(bus, ui, sessions, end):
    ticker = threading.Thread(target=sessions.run, args=(lambda: True, time.sleep))
    ticker.start()
    {"sessions": sessions, "bus": bus}[end].close()
    ticker.join(WATCHDOG)
    assert not ticker.is_alive()


def test_after_close_no_callback_is_left(bus, ui, sessions):
    bind(sessions, "a", "a")
    series(sessions, "a", "history")
    sessions.close()
    assert all(each.closed for each in sessions.callbacks)
    publish(bus, "a", 1)
    assert sessions.shown[0].number == 0


@pytest.mark.parametrize("hz", [0, -1, 101, float("nan")])
def test_a_rate_out_of_range_is_refused(bus, ui, hz):
    with pytest.raises(ValueError, match="updates per second"):
        Sessions(bus, ui, hz, LOG)


def test_without_taipy_the_import_says_what_to_install():
    program = """
import sys
sys.modules["taipy"] = None
try:
    import libbus.taipy
except ImportError as error:
    print(type(error).__name__, error.name, error, sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=True,
    )
    kind, name, text = done.stdout.strip().split("|")
    assert kind == "ModuleNotFoundError" and name.startswith("taipy")
    assert text == "libbus.taipy needs Taipy, which is not installed: pip install 'libbus[taipy]'"
