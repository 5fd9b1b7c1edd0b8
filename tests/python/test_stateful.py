"""A bus against its model: subscriptions are filters with a list, and a publish appends to those that match.

Hypothesis chooses the steps: subscribe, publish, keep, close, fork. After each step every due message has arrived.
BUS_TEST_ROUNDS=10 tries ten times as many.
"""

import json
import os
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)
from patience import WATCHDOG

import libbus

ROUNDS = int(os.environ.get("BUS_TEST_ROUNDS", "1"))

LEVELS = ["a", "b", "c"]
TOPICS = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=3).map("/".join)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(st.sampled_from([*LEVELS, "+"]), min_size=1, max_size=2),
    st.sampled_from([[], ["#"], ["b"]]),
) | st.just("#")


def matches(asked, topic):
    asked, topic = asked.split("/"), topic.split("/")
    for at, level in enumerate(asked):
        if level == "#":
            return True
        if at == len(topic) or level not in ("+", topic[at]):
            return False
    return len(asked) == len(topic)


def entry(msg):
    return msg.topic, msg.value if msg.data else None, msg.kept


class Listener:
    """The messages that a subscription or a callback must have."""

    def __init__(self, filters, real):
        self.filters = dict.fromkeys(filters)
        self.real = real
        self.due = []  # (topic, value, kept)
        self.heard = []  # of a callback

    def wants(self, topic):
        return any(matches(asked, topic) for asked in self.filters)


class Machine(RuleBasedStateMachine):
    name = None  # of the bus

    subscriptions = Bundle("subscriptions")
    callbacks = Bundle("callbacks")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="libbus-") if self.name else None
        self.bus = self.open("reopen")
        self.other = self.open("close") if self.name else self.bus
        self.live = []
        self.kept = {}
        self.numbers = iter(range(10**9))

    def open(self, on_fork):
        where = {"directory": self.folder.name, "log_bytes": 4 << 20} if self.folder else {}
        return libbus.Bus(self.name, on_fork=on_fork, **where)

    def teardown(self):
        self.check()
        for bus in {self.bus, self.other}:
            bus.close()
        for each in self.live:
            assert each.real.closed
        if self.folder:
            self.folder.cleanup()

    # --- the steps --------------------------------------------------------------------------------------------

    @rule(target=subscriptions, filters=st.lists(FILTERS, min_size=1, max_size=3, unique=True))
    def subscribe(self, filters):
        return self.listen(Listener(filters, self.other.subscribe(*filters)))

    @rule(
        target=callbacks,
        filters=st.lists(FILTERS, min_size=1, max_size=2, unique=True),
        workers=st.sampled_from([None, None, 1]),
    )
    def register(self, filters, workers):
        listener = Listener(filters, None)

        def hear(msg):
            listener.heard.append(entry(msg))

        listener.real = self.bus.subscribe(*filters, callback=hear, workers=workers)
        return self.listen(listener)

    def listen(self, listener):
        listener.due.append(self.kept_by(listener.filters))
        self.live.append(listener)
        return listener

    def kept_by(self, filters):
        """Kept values come first, each once for each filter that matches, in any order."""
        return [
            (topic, value, True)
            for asked in filters
            for topic, value in self.kept.items()
            if matches(asked, topic)
        ]

    @rule(topic=TOPICS, retain=st.booleans(), way=st.sampled_from(["publish", "send", "other"]))
    def publish(self, topic, retain, way):
        value = next(self.numbers)
        if way == "send" and not retain:
            with self.bus.publisher(topic) as publisher:
                publisher.send_many([value])
        else:
            (self.other if way == "other" else self.bus).publish(topic, value, retain=retain)
        self.published(topic, value)
        if retain:
            self.kept[topic] = value

    def published(self, topic, value):
        for each in self.live:
            if each.wants(topic):
                each.due.append((topic, value, False))

    @rule(topic=TOPICS)
    def forget(self, topic):
        self.bus.publish_raw(topic, b"", retain=True)
        self.kept.pop(topic, None)
        for each in self.live:
            if each.wants(topic):
                each.due.append((topic, None, False))

    @rule(topic=TOPICS)
    def get(self, topic):
        msg = self.other.get(topic)
        assert (msg and msg.value) == self.kept.get(topic)

    @rule(sub=subscriptions, asked=FILTERS)
    def add_a_filter(self, sub, asked):
        if sub.real.closed or asked in sub.filters:
            return
        self.drain(sub)
        sub.real.subscribe(asked)
        sub.filters[asked] = None
        sub.due.append(self.kept_by([asked]))

    @rule(sub=subscriptions, which=st.integers(0, 2))
    def remove_a_filter(self, sub, which):
        if sub.real.closed or len(sub.filters) < 2:
            return
        self.drain(sub)
        asked = list(sub.filters)[which % len(sub.filters)]
        sub.real.unsubscribe(asked)
        del sub.filters[asked]
        assert sub.real.filters == tuple(sub.filters)

    @rule(listener=consumes(subscriptions) | consumes(callbacks))
    def close(self, listener):
        listener.real.close()
        listener.real.close()
        self.live.remove(listener)
        assert listener.real.closed
        if isinstance(listener.real, libbus.Subscription):
            with pytest.raises(libbus.ClosedError):
                listener.real.recv_nowait()

    @rule(topic=TOPICS)
    def fork(self, topic):
        """The child has the callbacks but not the subscriptions; on a named bus every process gets its messages."""
        self.check()  # so that nothing is under way
        value = next(self.numbers)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                report = self.in_the_child(topic, value)
            except BaseException as error:  # noqa: BLE001 - told
                report = repr(error)
            with open(writing, "w") as pipe:
                json.dump(report, pipe)
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            report = json.load(pipe)
        assert os.waitpid(child, 0)[1] == 0
        assert report == [
            [value] * each.wants(topic) for each in self.live if not self.is_subscription(each)
        ]
        if self.name:
            self.published(topic, value)

    def in_the_child(self, topic, value):
        for each in self.live:
            each.heard.clear()
            if self.is_subscription(each):
                with pytest.raises(libbus.ForkError):
                    each.real.recv_nowait()
        if self.name:
            with pytest.raises(libbus.ForkError):
                self.other.publish(topic, value)
        callbacks = [each for each in self.live if not self.is_subscription(each)]
        self.bus.publish(topic, value)
        self.bus.flush(WATCHDOG)
        heard = [[value for _, value, kept in each.heard if not kept] for each in callbacks]
        self.bus.close()
        return heard

    # --- what must be so ------------------------------------------------------------------------------------------

    @staticmethod
    def is_subscription(listener):
        return isinstance(listener.real, libbus.Subscription)

    @invariant()
    def check(self):
        self.bus.flush(WATCHDOG)
        for each in self.live:
            if self.is_subscription(each):
                self.drain(each)
            else:
                found, each.heard[:] = list(each.heard), []
                self.compare(each, found)

    def drain(self, sub):
        self.compare(sub, self.take(sub))
        assert sub.real.stats()["pending"] == 0

    def take(self, sub):
        found = []
        while (msg := sub.real.recv_nowait()) is not None:
            assert msg.lost == 0
            found.append(entry(msg))
        return found

    def compare(self, listener, found):
        due, listener.due = listener.due, []
        for each in due:
            if isinstance(each, list):
                here, found = found[: len(each)], found[len(each) :]
                assert sorted(here) == sorted(each)
            else:
                assert found[:1] == [each]
                found = found[1:]
        assert found == []


class Named(Machine):
    name = "model"


@pytest.mark.parametrize("machine", [Machine, Named], ids=["private", "named"])
def test_a_bus_does_what_its_model_does(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=6 * ROUNDS,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # threads and forks: shorter examples are dear
        ),
    )
