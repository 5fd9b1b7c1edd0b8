"""For any published value a page gets a stream that a strict parser reads, with exactly that value."""

import json
import socket

import pytest
import sse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import WATCHDOG

import libbus
from libbus import _core

LAST = "the last one"

awkward = st.sampled_from('\r\n\0\ufeff\u2028\u2029\x85: {}"\\\u007f😀adeit')
texts = st.text(awkward, max_size=30) | st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
names = texts.filter(lambda text: not set(text) & set("+#\0") and len(text.encode()) < 500)
headers = st.dictionaries(
    st.sampled_from(["event", "id", "retry", "other"]),
    texts | st.integers(-(2**63), 2**63 - 1),
    max_size=4,
)
published = st.tuples(names, values | st.binary(max_size=20), headers)


class Page:
    def __init__(self, push, **options):
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(WATCHDOG)
        push.add(theirs.detach(), ["t/#"], **options)
        self.events = sse.read(iter(lambda: self.ours.recv(65536), b""))

    def read(self):
        """The events up to the last one."""
        found = []
        while not found or LAST not in found[-1].data:
            event = next(self.events)
            if event.name != "hb":
                found.append(event)
        return found[:-1]


@pytest.fixture(scope="module")
def push():
    with libbus.Bus() as bus:
        push = _core.Push(bus)
        yield bus, push
        push.close(WATCHDOG)


@settings(deadline=None, max_examples=200)
@given(st.lists(published, max_size=5))
@example([("x", text, {"event": text, "id": text}) for text in sse.AWKWARD])
def test_a_strict_parser_reads_the_published_values(push, messages):
    bus, push = push
    pages = Page(push), Page(push, raw=True), Page(push, raw=True, event="named")
    whole, raw, named = pages
    for name, value, extra in messages:
        bus.publish("t/" + name, value, headers=extra or None)
    bus.publish("t", LAST)

    found = whole.read()
    assert len(found) == len(messages)
    for event, (name, value, _) in zip(found, messages, strict=True):
        assert event.name == "message"
        body = json.loads(event.data)
        assert (body["topic"], body["kept"]) == ("t/" + name, False)
        if not isinstance(value, bytes):
            assert body["value"] == value

    for page in (raw, named):
        found = page.read()
        assert len(found) == len(messages)
        for event, (_, value, _) in zip(found, messages, strict=True):
            if isinstance(value, str):
                assert event.data == sse.one_end_of_lines(value)
            elif not isinstance(value, bytes):
                assert json.loads(event.data) == value
            assert page is raw or event.name == "named"
    for page in pages:
        page.ours.close()
