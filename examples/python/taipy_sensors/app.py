"""A sensor display with Taipy: a text, a chart, and a slider for the set point.

    pip install 'libbus[taipy]'
    python app.py sensor            # in one terminal
    python app.py                   # in another: http://127.0.0.1:5000

Start and restart them in any order, and open any number of browsers: all show the same values. The sensor simulates a room that a
heater keeps at the set point.
"""

import random
import sys
import time

import libbus

BUS = "taipy-sensors"

# --- the display: Taipy shows variables of this module ------------------------------------------

temperature = None
power = None
history = None
setpoint = 20

PAGE = """
# Room

<|layout|columns=1 1 2|
<|part|
Temperature
<|{temperature}|text|format=%.1f °C|id=temperature|class_name=h3|>
|>

<|part|
Heater, percent
<|{power}|text|id=power|class_name=h3|>
|>

<|part|
Set point
<|{setpoint}|slider|min=15|max=25|step=0.5|id=setpoint|>
|>
|>

<|{history}|chart|x=time|y[1]=temperature|y[2]=setpoint|mode=lines|height=360px|id=history|>
"""


def alarm(state, msg):
    notify(state, "warning", msg.value)


# --- the sensor: another process, without Taipy ----------------------------------------------------------


def sense():
    with libbus.Bus(BUS) as bus:
        now = 18.0
        while True:
            wanted = bus.get("room/setpoint")
            goal = 20 if wanted is None else wanted.value
            power = max(0, min(100, round(60 * (goal - now) + 40)))
            now += 0.004 * (power - 40) * random.uniform(0.5, 1.5) + random.uniform(-0.05, 0.05)
            reading = {"temperature": round(now, 2), "setpoint": goal, "power": power}
            bus.publish("room/now", reading, retain=True)
            if now < 16:
                bus.publish("room/alarm", f"only {now:.1f} °C")
            time.sleep(0.2)


if __name__ == "__main__" and sys.argv[1:] == ["sensor"]:
    sense()

if __name__ == "__main__":
    from taipy.gui import Gui, notify

    from libbus.taipy import BusGui

    bus = libbus.Bus(BUS)
    gui = Gui(PAGE)
    link = BusGui(bus, gui, hz=10)
    link.bind("room/now", "temperature", field="temperature")
    link.bind("room/now", "power", field="power")
    link.series("room/now", "history", maxlen=300)
    link.bind("room/setpoint", "setpoint")
    link.publish_on_change("setpoint", "room/setpoint")
    link.on_message("room/alarm", alarm)
    port = int(sys.argv[1]) if sys.argv[1:] else 5000
    gui.run(title="Room", port=port, run_browser=False, use_reloader=False)
