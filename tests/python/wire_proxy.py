"""A tcp proxy that records the bytes between two buses, delays them, and cuts the connection at a byte."""

import collections
import contextlib
import socket
import threading

from patience import WATCHDOG
from wire_peer import connect
from wire_reader import Connection, Parser, WireError

OTHER = {"dialling": "listening", "listening": "dialling"}


class Recorded:
    """One connection through the proxy."""

    def __init__(self, dialling, listening):
        self.sockets = {"dialling": dialling, "listening": listening}
        self.lock = threading.Condition()
        self.events = []  # (side, bytes) in the order in which they were read
        self.read = collections.Counter()  # bytes of each side that were read
        self.delivered = collections.Counter()  # bytes of each side that the other was given
        self.held, self.stalled = {}, set()  # side: bytes; sides that are not read
        self.cut_at = {}  # side: the number of its bytes before the cut
        self.cut = self.over = False
        self.parsers = {side: Parser() for side in OTHER}
        self.frames = {side: [] for side in OTHER}
        for parser in self.parsers.values():
            parser.joined, parser.max_payload = True, 1 << 31

    def run(self):
        back = threading.Thread(target=self.pump, args=("listening",))
        back.start()
        self.pump("dialling")
        back.join()
        for end in self.sockets.values():
            end.close()
        with self.lock:
            self.over = True

    def pump(self, side):
        source, sink = self.sockets[side], self.sockets[OTHER[side]]
        while data := self.receive(source):
            with self.lock:
                self.events.append((side, data))
                self.read[side] += len(data)
                # judge() reports faults.
                with contextlib.suppress(WireError):
                    self.frames[side].extend(self.parsers[side].feed(data))
                self.lock.wait_for(lambda: side not in self.stalled or self.cut)
                if self.cut:
                    continue  # to know all that was said
                if side in self.held:
                    self.held[side] += data
                    continue
                end = self.cut_at.get(side)
                rest = (
                    len(data) if end is None else max(0, min(len(data), end - self.delivered[side]))
                )
                self.cut = end is not None and self.delivered[side] + rest >= end
            with contextlib.suppress(OSError):
                sink.sendall(data[:rest])
            with self.lock:
                self.delivered[side] += rest
            if self.cut:
                self.end()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    @staticmethod
    def receive(source):
        try:
            return source.recv(1 << 16)
        except OSError:
            return b""

    def end(self):
        """Lets both sides read the end of the connection; records their further bytes."""
        with self.lock:
            self.cut = True
            self.lock.notify_all()
        for end in self.sockets.values():
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    def hold(self, side):
        """Reads and records the bytes of this side, and forwards none of them."""
        with self.lock:
            self.held[side] = b""

    def stall(self, side):
        """Stops reading this side, so that its messages wait in its bus."""
        with self.lock:
            self.stalled.add(side)

    def release(self, side):
        with self.lock:
            data = self.held.pop(side, b"")
            self.sockets[OTHER[side]].sendall(data)
            self.delivered[side] += len(data)
            self.stalled.discard(side)
            self.lock.notify_all()

    def said(self, side, *kinds):
        """The frames of these kinds that one side has said so far."""
        with self.lock:
            return [found for found in self.frames[side] if found.kind in kinds]

    def judge(self, history):
        """The Connection of all that was said; raises WireError."""
        connection = Connection(history)
        with self.lock:
            events, delivered = list(self.events), dict(self.delivered)
        for side, data in events:
            connection.feed(side, data)
        connection.end({side: delivered.get(side, 0) for side in OTHER})
        return connection


class Proxy:
    """Listens on a port of its own, and dials an address for each connection there."""

    def __init__(self, url, plan=None):
        self.target = url
        self.plan = plan or (lambda recorded, number: None)
        self.connections = []
        self.threads = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.accepting = threading.Thread(target=self.accept)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                dialling, _ = self.server.accept()
            except OSError:
                return
            try:
                listening = connect(self.target)
            except OSError:
                dialling.close()
                continue
            for end in (dialling, listening):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            recorded = Recorded(dialling, listening)
            self.plan(recorded, len(self.connections))
            self.connections.append(recorded)
            thread = threading.Thread(target=recorded.run)
            self.threads.append(thread)
            thread.start()

    @property
    def last(self):
        return self.connections[-1]

    def close(self):
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.accepting.join(WATCHDOG)
        for recorded in self.connections:
            if not recorded.over:
                recorded.end()
        for thread in self.threads:
            thread.join(WATCHDOG)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
