"""A page of Taipy without a browser: it connects as the page's script does, and counts what comes."""

import json
import re
import threading
import time
import urllib.request

import socketio
from patience import WATCHDOG

# What a tick sends: one variable, or a group.
UPDATES = ("MU", "MS")
# The variable in a name like _TpN_tpec_TpExPr_t00_TPMDL_0.
SHOWN = re.compile(r"TpExPr_(\w+?)_TPMDL_\d+$")


class Session:
    def __init__(self, port, begin=True):
        self.values = {}
        self.updates = 0
        self.assigned = 0  # variables in them
        self.id = None
        self._named = threading.Event()
        self._port = port
        self._socket = self._connected()
        self._send("ID", "")
        assert self._named.wait(WATCHDOG), "Taipy gave this session no name"
        if begin:
            self.begin()

    def begin(self):
        """Until now Taipy has called no on_init."""
        self.get("taipy-init")
        self._page = self.get("taipy-jsx/TaiPy_root_page")["jsx"]

    def _connected(self):
        deadline = time.monotonic() + WATCHDOG
        while True:
            client = socketio.Client(reconnection=False)  # one that failed does not connect later
            client.on("message", self._hear)
            try:
                client.connect(
                    f"http://127.0.0.1:{self._port}",
                    transports=["websocket"],
                    wait_timeout=WATCHDOG,
                )
                return client
            except socketio.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "no server"
                time.sleep(0.1)

    def _send(self, kind, payload, **more):
        self._socket.emit(
            "message",
            {"type": kind, "payload": payload, "client_id": self.id, "module_context": "__main__"}
            | more,
        )

    def _hear(self, message, *_):
        if message["type"] == "ID":
            self.id = message["id"]
            self._named.set()
        if message["type"] in UPDATES:
            self.updates += 1
            self._take(message)

    def _take(self, message):
        if message["type"] == "MS":
            for each in message["payload"]:
                self._take(each)
        elif message["type"] == "MU":
            for each in message["payload"]:
                # Beside the expression of the page comes the bare name, with the module's value.
                if found := SHOWN.search(each["name"]):
                    self.assigned += 1
                    self.values[found[1]] = each["payload"].get("value")

    def get(self, path):
        url = f"http://127.0.0.1:{self._port}/{path}?client_id={self.id}&v=1"
        with urllib.request.urlopen(url, timeout=WATCHDOG) as answer:
            return json.load(answer)

    def change(self, name, value, on_change=None):
        """As a control does it."""
        name = re.search(rf'updateVarName="(\w+TpExPr_{name}_TPMDL_\d+)"', self._page)[1]
        payload = {"value": value} | ({"on_change": on_change} if on_change else {})
        self._send("U", payload, name=name, propagate=True)

    def until(self, name, wanted):
        deadline = time.monotonic() + WATCHDOG
        while self.values.get(name) != wanted:
            assert time.monotonic() < deadline, f"{name} is not {wanted!r}: {self.values}"
            time.sleep(0.01)

    def close(self):
        # Without waiting: Werkzeug takes seconds to end a WebSocket.
        threading.Thread(target=self._socket.disconnect, daemon=True).start()
