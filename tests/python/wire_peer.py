"""Speaks version 2 of the wire by docs/internals/wire.md alone, without the library."""

import collections
import contextlib
import os
import random
import socket
import struct

from wire_reader import (
    CLOSED,
    HELLO,
    KEPT,
    MAX_PAYLOAD,
    MOST_TOPICS,
    PREAMBLE,
    STAND,
    Parser,
    WireError,
    frame,
)


class WirePeer:
    """A bus that speaks the wire by hand: honest with handshake(), anything else with say().

    It remembers its own sequence and the other's from connection to connection; both may be set.
    """

    def __init__(self, seed, timeout, max_payload=MAX_PAYLOAD, features=0):
        self.random = random.Random(seed)
        self.id = self.random.randbytes(16)
        self.timeout, self.max_payload, self.features = timeout, max_payload, features
        self.socket = self.server = None
        self.path = self.other_id = None
        # Its own sequence, and the other's: id, next, missing. Never sent since the last connection broke.
        self.own = [self.random.getrandbits(64) | 1, 0, 0]
        self.heard = [0, 0, 0]
        self.unsent = 0
        self.messages = []
        self.topics, self.names = {}, {}

    def listen(self, url):
        """Opens an address, port 0 for any; accept() waits for a dialler. Returns the address."""
        scheme, place = url.split("://")
        if scheme == "ipc":
            self.server, self.path = socket.socket(socket.AF_UNIX), place
            self.server.bind(place)
            self.server.listen()
            return url
        self.server = socket.create_server(address(place))
        return f"tcp://127.0.0.1:{self.server.getsockname()[1]}"

    def accept(self):
        self.server.settimeout(self.timeout)
        self.begin(self.server.accept()[0], "listening")
        return self

    def dial(self, url):
        self.begin(connect(url), "dialling")
        return self

    def begin(self, connected, role):
        self.socket, self.role = connected, role
        self.socket.settimeout(self.timeout)
        self.parser, self.waiting = Parser(), collections.deque()
        self.parser.max_payload = self.max_payload
        self.parser.joined = True  # Connection judges the frames before JOIN in a recording
        self.record = []
        self.topics.clear()
        self.names.clear()

    # --- bytes and frames

    def raw(self, data):
        self.socket.sendall(data)
        self.record.append((self.role, data))

    def say(self, kind, body=b"", number=0, flags=0):
        self.raw(frame(kind, body, number, flags))

    def read(self):
        """The next frame; None: the other side has closed."""
        while not self.waiting:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.record.append(("listening" if self.role == "dialling" else "dialling", data))
            for found in self.parser.feed(data):
                self.handle(found)
                self.waiting.append(found)
        return self.waiting.popleft()

    def handle(self, found):
        """Updates the peer's memory of the other sequence."""
        if found.kind == "START":
            goes_on = found["id"] == self.heard[0]
            missing = found["next"] - self.heard[1] + self.heard[2] if goes_on else found["next"]
            self.heard = [found["id"], found["next"], missing]
        elif found.kind == "TOPIC":
            self.topics[found.number] = found["text"]
        elif found.kind == "MSG":
            found.fields["topic"] = self.topics[found.number]
            self.messages.append(found)
        elif found.kind == "HELLO":
            self.other_id = found["id"]
        self.heard[1] += found.numbers
        if found.kind == "LOST":
            self.heard[2] += found.numbers

    def until(self, kind):
        """Returns the next frame of a kind; skips those before it."""
        seen = []
        while (found := self.read()) is not None:
            if found.kind == kind:
                return found
            seen.append(f"BYE {found.number}" if found.kind == "BYE" else found.kind)
        raise WireError(f"the connection ended after {seen or 'nothing'}, without {kind}")

    def ended(self):
        """The reason of the BYE with which the other side ends the connection; None: there was none."""
        while (found := self.read()) is not None:
            if found.kind == "BYE":
                return found.number
        return None

    # --- the handshake in its parts

    def hello(self, features=None, extra=b""):
        features = self.features if features is None else features
        body = HELLO.pack(self.id, self.max_payload, 3_600_000, features) + extra
        self.raw(PREAMBLE + frame("HELLO", body))

    def resume(self, *stand):
        self.say("RESUME", STAND.pack(*(stand or self.heard)))

    def start(self, *stand, flags=0):
        self.say(
            "START", STAND.pack(*(stand or (self.own[0], self.own[1], self.unsent))), flags=flags
        )

    def join(self):
        """Up to JOIN, of the dialling side."""
        self.hello()
        self.until("HELLO")
        self.say("JOIN")

    def handshake(self, *filters, resume=None, start=None, flags=0):
        """The whole handshake, on either side; returns the other's RESUME and START."""
        if self.role == "dialling":
            self.join()
        else:
            self.until("HELLO")
            self.hello()
            self.until("JOIN")
        self.resume(*(resume or ()))
        if self.role == "listening":
            theirs = self.until("RESUME")
            self.start(*(start or ()), flags=flags)
        for filter in filters:
            self.subscribe(filter)
        self.say("READY")
        if self.role == "dialling":
            theirs = self.until("RESUME")
            self.start(*(start or ()), flags=flags)
        self.unsent = 0
        # READY and START come in either order.
        last = {}
        while last.keys() != {"READY", "START"}:
            found = self.read()
            if found is None:
                raise WireError("the connection ended before READY and START")
            if found.kind in ("READY", "START"):
                last[found.kind] = found
        return theirs, last["START"]

    # --- afterwards

    def subscribe(self, filter):
        self.say("SUB", filter.encode())

    def unsubscribe(self, filter):
        self.say("UNSUB", filter.encode())

    def publish(self, topic, payload=b"", flags=0, fields=b""):
        number = self.names.get(topic)
        if number is None:
            number = self.names[topic] = len(self.names) % MOST_TOPICS
            self.say("TOPIC", topic.encode(), number)
        self.say("MSG", fields + payload, number, flags)
        self.own[1] += not flags & KEPT

    def lost(self, count):
        self.say("LOST", struct.pack("<Q", count))
        self.own[1] += count

    def bye(self, reason=CLOSED):
        self.say("BYE", number=reason)
        self.close()

    def break_off(self):
        """Ends the connection without BYE."""
        self.close()

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        if self.server is not None:
            self.server.close()
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def address(place):
    host, port = place.rsplit(":", 1)
    return host, int(port)


def connect(url):
    scheme, place = url.split("://")
    if scheme == "tcp":
        return socket.create_connection(address(place))
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(place)
    return connected
