"""The Taipy app of test_taipy.py: app.py PORT ASYNC_MODE BUS [single]."""

import logging
import sys

from taipy.gui import Gui

import libbus
from libbus.taipy import BusGui

logging.basicConfig(level="WARNING")
port, mode, name, *options = sys.argv[1:]

user = None
inbox = "nothing"
setpoint = 1
quiet = 0
wave = None
grid_seen = ""
rooms = None
seen_at_init = "-"
changes = 0
alarms = ""
t00 = t01 = t02 = t03 = t04 = t05 = t06 = t07 = t08 = t09 = None
t10 = t11 = t12 = t13 = t14 = t15 = t16 = t17 = t18 = t19 = None
NAMES = [f"t{n:02}" for n in range(20)]

PAGE = (
    "".join(f"<|{{{each}}}|text|id={each}|>\n\n" for each in NAMES)
    + """
<|{inbox}|text|id=inbox|>

<|{seen_at_init}|text|id=seen_at_init|>

<|{grid_seen}|text|id=grid_seen|>

<|{alarms}|text|id=alarms|>

<|{setpoint}|slider|id=setpoint|on_change=moved|>

<|{quiet}|number|id=quiet|>

<|{rooms}|table|id=rooms|>

<|{wave}|chart|id=wave|>
"""
)


def on_init(state):
    state.seen_at_init = f"t00={state.t00}"


def moved(state, var, value):
    state.changes += 1


def alarm(state, msg):
    state.alarms = f"{state.alarms} {msg.value}"


unpickled = []
sys.addaudithook(lambda event, about: event == "pickle.find_class" and unpickled.append(about))


def describe(array):
    return f"{type(array).__name__} {array.dtype} {array.tolist()} {unpickled}"


bus = libbus.Bus(name)
gui = Gui(PAGE)
link = BusGui(bus, gui, hz=10)
for each in NAMES:
    link.bind(f"many/{each}", each)
link.bind("room/+", "rooms")
link.bind("wave", "wave")
link.bind("grid", "grid_seen", convert=describe)
link.bind("set", "setpoint")
link.publish_on_change("setpoint", "set")
link.publish_on_change("quiet", "quiet")
link.on_message("alarm", alarm)
link.per_client(lambda state: f"user/{state.user}" if state.user else None, "inbox", empty="left")


# A session says who it is by a message, as others do it by a login.
def login(state, msg):
    from taipy.gui import get_state_id

    state.user = msg.value.get(get_state_id(state), state.user)


link.on_message("login", login)
gui.run(
    port=int(port), async_mode=mode, run_browser=False, use_reloader=False, allow_unsafe_werkzeug=True,
    single_client="single" in options,
)  # fmt: skip
