"""The publishing end of a door in Python: here, or in a process of its own that is told what to do."""

import multiprocessing
import threading

from patience import WATCHDOG

import libbus


class Publisher:
    """What tests have published. Calls may come through a pipe: arguments and answers are plain values."""

    def __init__(self, bus, link=None):
        self.bus, self.link = bus, link
        self.sent = 0
        self.stop = threading.Event()

    def publish(self, topic, value, **options):
        self.bus.publish(topic, value, **options)

    def publish_raw(self, topic, data, **options):
        self.bus.publish_raw(topic, data, **options)

    def forget(self, topic):
        self.bus.publish_raw(topic, b"", retain=True)

    def numbers(self, topics, start, end):
        """Counts on each topic, all at the same time."""

        def count(topic):
            for number in range(start, end):
                self.bus.publish(topic, number)

        threads = [threading.Thread(target=count, args=(topic,)) for topic in topics]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)

    def batch(self, topic, values):
        with self.bus.publisher(topic) as publisher:
            assert publisher.send_many(values) == len(values)

    def traffic(self, topic):
        """Retained numbers until end_traffic()."""

        def count():
            while not self.stop.wait(0.001):
                self.bus.publish(topic, self.sent, retain=True)
                self.sent += 1

        self.stop.clear()
        self.thread = threading.Thread(target=count)
        self.thread.start()

    def traffic_so_far(self):
        return self.sent

    def end_traffic(self):
        self.stop.set()
        self.thread.join(WATCHDOG)
        return self.sent

    def make_warning(self):
        """Has the bus say something on a topic of its own; returns where."""
        with self.bus.subscribe("$bus/warnings") as watcher:
            for _ in range(10_000):
                self.bus.publish("unheard", 1)
                if (msg := watcher.recv_nowait()) is not None:
                    return msg.topic
        raise AssertionError("no warning came")

    def request(self, topic, value):
        return self.bus.request(topic, value, timeout=WATCHDOG).value

    def flush(self):
        self.bus.flush(WATCHDOG)

    def stats(self):
        return self.bus.stats()

    def link_stats(self):
        return self.link.stats()


def serve(pipe, url):
    """The process: a bus that listens, and answers (whether it went well, what came of it)."""
    with libbus.Bus() as bus:
        publisher = Publisher(bus, bus.listen(url, max_bytes=4 << 20))
        pipe.send((True, None))
        while call := pipe.recv():
            name, arguments, options = call
            try:
                pipe.send((True, getattr(publisher, name)(*arguments, **options)))
            except libbus.BusError as error:
                pipe.send((False, error.name))


def listen_to_all(url):
    """The process of a peer that wants everything and takes nothing."""
    with libbus.Bus() as bus, bus.subscribe("#"):
        bus.dial(url)
        threading.Event().wait(2 * WATCHDOG)


class Refused(Exception):
    """A BusError of the other process; its text is the name of the error."""


class Process:
    """A Publisher in a process of its own, with the same methods."""

    def __init__(self, url):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs, url), daemon=True)
        self.process.start()
        theirs.close()
        self.answer()

    def answer(self):
        assert self.pipe.poll(WATCHDOG), "the publishing process does not answer"
        went_well, answer = self.pipe.recv()
        if not went_well:
            raise Refused(answer)
        return answer

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.pipe.send((name, arguments, options))
            return self.answer()

        return call

    def kill(self):
        self.process.kill()
        self.process.join(WATCHDOG)
        self.pipe.close()
