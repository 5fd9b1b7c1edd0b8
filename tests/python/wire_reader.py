"""Reads version 2 of the wire by docs/internals/wire.md alone, without the library.

Run: python3 wire_reader.py FILE. Prints every frame of one direction that was recorded from its first byte.
"""

import collections
import dataclasses
import struct
import sys

PREAMBLE = b"\xb5libbus\x02"
HEAD = struct.Struct("<IBBH")
HELLO = struct.Struct("<16sIIQ")
STAND = struct.Struct("<QQQ")  # RESUME and START: id, number, how many
DEALT = 1 << 64  # numbers and counts are counted modulo this

AT_LEAST, PASSED_ON = 1, 2  # of LOST
RESTARTED = 1
WAITED, MET = 1, 2  # of RESUME
RETAIN, KEPT, TYPED, TTL, HEADERS, REPLY_TO, ORIGIN, BEFORE = (1 << bit for bit in range(8))
NOBODY = 64
DENY_TOPIC = 1  # the number of a DENY whose text is a topic, not a filter
MSG_FLAGS, REPLY_FLAGS = 255, TYPED | TTL | HEADERS | REPLY_TO | NOBODY

# The fields of PASSED before those of MSG, and of a LOST that hubs pass on behind its count: the bus, its number and the hubs.
PASSED = struct.Struct("<16sQ")
MOST_HUBS = 8
RELAY, NUMBERS = 1 << 1, 1 << 33  # feature bits of a hub

# The fields of MSG, PASSED and REPLY in their order: name, the flags it comes with, its format.
FIELDS = (
    ("type", TYPED, "<i"),
    ("time_ns", RETAIN | KEPT, "<q"),
    ("changes", RETAIN | KEPT, "<Q"),
    ("origin", ORIGIN, "16s"),
    ("ttl_ms", TTL, "<I"),
    ("question", REPLY_TO, "<Q"),
    ("header_bytes", HEADERS, "<I"),
)

CLOSED, LINKED, SILENT, FORBIDDEN, TOO_LONG, NOT_ALLOWED, FEATURE = range(7)

MOST_FILTERS = MOST_TOPICS = 10_000
MOST_TEXT = 1024
BEFORE_JOIN = 4096
MOST_LONGER = BEFORE_JOIN - HEAD.size  # of frames that may be longer than what is known of them
MAX_PAYLOAD = 1 << 20


class WireError(ValueError):
    """Bytes that docs/internals/wire.md forbids; bye is the reason that it gives for them, None: closed without BYE."""

    def __init__(self, text, bye=FORBIDDEN):
        super().__init__(text)
        self.bye = bye


@dataclasses.dataclass
class Kind:
    name: str
    least: int = 0
    most: int = 0  # of the body; of MSG and REPLY both depend on the flags
    flags: int = 0
    number: int = 0  # the greatest


KINDS = {
    1: Kind("HELLO", HELLO.size, MOST_LONGER),
    2: Kind("JOIN"),
    3: Kind("SUB", 1, MOST_TEXT),
    4: Kind("UNSUB", 1, MOST_TEXT),
    5: Kind("READY"),
    6: Kind("TOPIC", 1, MOST_TEXT, number=MOST_TOPICS - 1),
    7: Kind("MSG", flags=MSG_FLAGS, number=MOST_TOPICS - 1),
    8: Kind("LOST", 8, 8, AT_LEAST | PASSED_ON),
    9: Kind("PING"),
    10: Kind("BYE", number=0xFFFF),
    11: Kind("REPLY", flags=REPLY_FLAGS),
    12: Kind("RESUME", STAND.size, MOST_LONGER, flags=WAITED | MET),
    13: Kind("START", STAND.size, MOST_LONGER, RESTARTED),
    14: Kind("AUTH", 1, MOST_LONGER),
    16: Kind("DENY", 1, MOST_TEXT, number=1),
    17: Kind("PASSED", flags=MSG_FLAGS, number=MOST_TOPICS - 1),
}
RESERVED = {15: "ACK"}
CODES = {kind.name: code for code, kind in KINDS.items()} | {"ACK": 15}
NEEDS_AUTH = 1 << 32


@dataclasses.dataclass
class Frame:
    kind: str
    flags: int
    number: int
    body: bytes
    offset: int  # of its head, in its direction
    fields: dict = dataclasses.field(default_factory=dict)

    def __getitem__(self, name):
        return self.fields[name]

    @property
    def end(self):
        return self.offset + HEAD.size + len(self.body)

    @property
    def numbers(self):
        """The count of sequence numbers that the frame takes."""
        if self.kind == "LOST":
            return self["count"]
        event = self.kind in ("MSG", "PASSED") and not self.flags & KEPT
        return int(self.kind == "REPLY" or event)

    def refuse(self, field, text, bye=FORBIDDEN):
        raise WireError(f"{self.kind} at byte {self.offset}, {field}: {text}", bye)


def frame(kind, body=b"", number=0, flags=0):
    """The bytes of a frame, right or wrong."""
    return HEAD.pack(len(body), CODES.get(kind, kind), flags, number) + body


# --- one direction --------------------------------------------------------------------------------------


class Parser:
    """Makes frames of the bytes of one direction, in pieces of any size.

    max_payload is that of the receiver, which its HELLO says; until JOIN is said or read, joined is false.
    """

    def __init__(self):
        self.buffer = bytearray()
        self.offset = 0  # of the buffer
        self.greeted = self.joined = False
        self.max_payload = MAX_PAYLOAD

    def feed(self, data):
        """Yields the frames that are complete with these bytes."""
        self.buffer += data
        if not self.greeted:
            self.greet()
        while self.greeted and (found := self.next()):
            yield found

    def greet(self):
        for at, byte in enumerate(self.buffer[:7]):
            if byte != PREAMBLE[at]:
                raise WireError(
                    f"preamble at byte {at}: {byte:#04x}, not {PREAMBLE[at]:#04x}", None
                )
        if len(self.buffer) < len(PREAMBLE):
            return
        if self.buffer[7] != PREAMBLE[7]:
            raise WireError(f"preamble at byte 7, version: {self.buffer[7]}, not 2", None)
        self.greeted = True
        self.take(len(PREAMBLE))

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        self.offset += count
        return taken

    def next(self):
        if len(self.buffer) < HEAD.size:
            return None
        length, code, flags, number = HEAD.unpack_from(self.buffer)
        found = Frame(str(code), flags, number, b"", self.offset)
        if code in RESERVED:
            found.refuse("kind", f"{RESERVED[code]} is reserved")
        if code not in KINDS:
            found.refuse("kind", "there is none such")
        kind = KINDS[code]
        found.kind = kind.name
        self.judge(found, kind, length)
        if len(self.buffer) < HEAD.size + length:
            return None
        self.take(HEAD.size)
        found.body = self.take(length)
        READ.get(found.kind, read_nothing)(found, self.max_payload)
        if found.kind == "JOIN":
            self.joined = True
        return found

    def judge(self, found, kind, length):
        """Checks the head alone."""
        if not self.joined and HEAD.size + length > BEFORE_JOIN:
            found.refuse("length", f"{length}, and JOIN was not said", TOO_LONG)
        if found.flags & ~kind.flags:
            found.refuse("flags", f"{found.flags:#x}, not within {kind.flags:#x}")
        least, most = kind.least, kind.most
        if found.kind == "LOST" and found.flags & PASSED_ON:
            least = most = least + PASSED.size
        if found.kind in ("MSG", "PASSED", "REPLY"):
            check_flags(found)
            least = sum(size for _, size, _ in fields_of(found))
            least += PASSED.size if found.kind == "PASSED" else 0
            nobody = found.kind == "REPLY" and found.flags & NOBODY
            most = least + (0 if nobody else self.max_payload)
        if length > most:
            found.refuse("length", f"{length}, more than {most}", TOO_LONG)
        if length < least:
            found.refuse("length", f"{length}, less than {least}")
        if found.number > kind.number:
            found.refuse("number", f"{found.number}, more than {kind.number}")

    def finish(self):
        """Bytes that are left at the end of the direction, of half a frame."""
        if not self.greeted or self.buffer:
            raise WireError(f"the direction ends inside the frame at byte {self.offset}")


def check_flags(found):
    """Flags that exclude or need each other."""
    flags = found.flags
    if found.kind == "REPLY":
        if not flags & REPLY_TO:
            found.refuse("flags", f"{flags:#x}: a reply without REPLY_TO")
        if flags & NOBODY and flags != NOBODY | REPLY_TO:
            found.refuse("flags", f"{flags:#x}: NOBODY goes with REPLY_TO only")
    else:
        if found.kind == "PASSED" and flags & (RETAIN | KEPT) == KEPT:
            found.refuse("flags", f"{flags:#x}: a kept value is no event")
        if flags & REPLY_TO and flags & (RETAIN | KEPT):
            found.refuse("flags", f"{flags:#x}: a question that is kept")
        if flags & ORIGIN and not flags & (RETAIN | KEPT):
            found.refuse("flags", f"{flags:#x}: ORIGIN of a message that is not kept")
        if flags & BEFORE and not flags & (RETAIN | KEPT):
            found.refuse("flags", f"{flags:#x}: BEFORE of a message that is not kept")


def fields_of(found):
    """Name, size and format of the fields that the flags of a MSG or a REPLY announce."""
    flags = found.flags
    if found.kind == "REPLY":
        flags &= ~NOBODY
    for name, with_, layout in FIELDS:
        if flags & with_:
            yield name, struct.calcsize(layout), layout


def read_nothing(found, max_payload):
    pass


def read_hello(found, max_payload):
    id_, payload, heartbeat, features = HELLO.unpack_from(found.body)
    if heartbeat < 100:
        found.refuse("heartbeat_ms", f"{heartbeat}, less than 100")
    if (features & ~NEEDS_AUTH & ~NUMBERS) >> 32:
        found.refuse("feature bits", f"{features:#x} is needed, and is not defined", FEATURE)
    found.fields = {
        "id": id_,
        "max_payload": payload,
        "heartbeat_ms": heartbeat,
        "features": features,
    }


def read_text(found, max_payload):
    if b"\0" in found.body:
        found.refuse("text", f"a NUL byte at {found.body.index(0)}")
    try:
        text = found.body.decode()
    except UnicodeDecodeError as error:
        found.refuse("text", f"no UTF-8 at {error.start}")
    if text.startswith("$"):
        found.refuse("text", f"{text!r} concerns one bus only")
    if found.kind == "TOPIC" or (found.kind == "DENY" and found.number == DENY_TOPIC):
        if "+" in text or "#" in text:
            found.refuse("text", f"the topic {text!r} has a wildcard")
    else:
        levels = text.split("/")
        for at, level in enumerate(levels):
            if level == "+" or (level == "#" and at == len(levels) - 1):
                continue
            if "+" in level or "#" in level:
                found.refuse("text", f"{text!r} is no filter: its level {at} is {level!r}")
    found.fields = {"text": text}


def read_passed(found, at):
    """Reads the publisher: the bus, the number there, and the count of hubs."""
    source, place = PASSED.unpack_from(found.body, at)
    number, hubs = place & (1 << 48) - 1, place >> 48
    if number == 0 or hubs > MOST_HUBS:
        found.refuse(f"number at {at + 16}", f"{number} through {hubs} hubs")
    return {"source": source, "number": number, "hubs": hubs}


def read_lost(found, max_payload):
    found.fields = {"count": struct.unpack_from("<Q", found.body)[0]}
    if found.flags & PASSED_ON:
        found.fields |= read_passed(found, 8)


def read_stand(found, max_payload):
    id_, number, missing = STAND.unpack_from(found.body)
    if found.kind == "START" and id_ == 0:
        found.refuse("id", "0 is no sequence")
    if missing > number:
        found.refuse("count at 16", f"{missing} of the {number} numbers below the next")
    if found.kind == "RESUME" and found.flags & WAITED and (id_ != 0 or number != 0):
        found.refuse("flags", f"WAITED for {id_:#x}, of which {number} is expected")
    found.fields = {"id": id_, "next": number, "missing": missing}


def read_message(found, max_payload):
    at, fields = 0, {}
    if found.kind == "PASSED":
        at, fields = PASSED.size, read_passed(found, 0)
    for name, size, layout in fields_of(found):
        fields[name] = struct.unpack_from(layout, found.body, at)[0]
        least = 0 if name == "time_ns" else 1
        if name not in ("type", "origin") and fields[name] < least:
            found.refuse(f"{name} at {at}", f"{fields[name]}, less than {least}")
        if name == "changes" and fields[name] >= 1 << 62:
            found.refuse(f"{name} at {at}", f"{fields[name]}, not below 2^62")
        at += size
    headers = fields.pop("header_bytes", 0)
    rest = found.body[at:]
    if headers > len(rest):
        found.refuse("bytes of headers", f"{headers}, and only {len(rest)} are left")
    fields["payload"] = rest[: len(rest) - headers]
    fields["headers"] = rest[len(rest) - headers :]
    found.fields = fields


READ = {
    "HELLO": read_hello,
    "SUB": read_text,
    "UNSUB": read_text,
    "TOPIC": read_text,
    "DENY": read_text,
    "MSG": read_message,
    "PASSED": read_message,
    "REPLY": read_message,
    "LOST": read_lost,
    "RESUME": read_stand,
    "START": read_stand,
}


def frames(data, max_payload=MAX_PAYLOAD, joined=True):
    """All frames of a direction that was recorded from its first byte, to its last."""
    parser = Parser()
    parser.max_payload, parser.joined = max_payload, joined
    found = list(parser.feed(data))
    parser.finish()
    return found


def matches(filter, topic):
    """Whether a filter matches a topic, as MQTT 3.1.1 says."""
    asked, has = filter.split("/"), topic.split("/")
    for at, level in enumerate(asked):
        if level == "#":
            return True
        if at >= len(has) or level not in ("+", has[at]):
            return False
    return len(asked) == len(has)


# --- a connection: both directions ------------------------------------------------------------------------


class Side:
    """The frames of one side of a connection, and the state that follows from them."""

    def __init__(self, name):
        self.name = name
        self.parser = Parser()
        self.said = []  # frames
        self.hello = self.resume = self.start = self.bye = None
        self.joined = self.ready = False
        self.auths = 0  # how many AUTH it said
        self.topics = {}  # number: topic
        self.filters = set()  # now
        self.asked = set()  # of this connection, and what the other side remembers before READY
        self.next = None  # the number of its next message
        self.lost = 0  # how many numbers below that belong to messages that did not arrive
        self.stands = []  # (end of the frame, next, lost) behind START and each frame that takes numbers
        self.counts = collections.Counter()

    def refuse(self, found, text):
        raise WireError(f"{self.name}: {found.kind} at byte {found.offset}: {text}")


class Connection:
    """Judges both directions of a connection, in the order in which a proxy read them.

    past is the History of the pair; None: unknown, so a sequence may go on or begin.
    """

    def __init__(self, past=None):
        self.past = past
        self.sides = {"dialling": Side("dialling"), "listening": Side("listening")}
        self.before = None  # what the history says of the pair, from the second HELLO on

    def feed(self, name, data):
        side, other = self.pair(name)
        if side.name == "listening" and data and not other.parser.greeted:
            raise WireError("listening: a preamble before that of the dialling side was read")
        for found in side.parser.feed(data):
            side.said.append(found)
            self.judge(found, side, other)

    def pair(self, name):
        return self.sides[name], self.sides["listening" if name == "dialling" else "dialling"]

    def judge(self, found, side, other):
        kind = found.kind
        if side.bye is not None:
            side.refuse(found, "it comes after BYE")
        if side.hello is None and kind not in ("HELLO", "BYE"):
            side.refuse(found, "HELLO is the first")
        # JOIN is that of the dialling side, for both.
        joined = self.sides["dialling"].joined
        if not joined and kind not in ("HELLO", "AUTH", "JOIN", "BYE"):
            side.refuse(found, "it comes before JOIN")
        if joined and side.resume is None and kind not in ("RESUME", "BYE"):
            side.refuse(found, "RESUME is the first after JOIN")
        if kind in ("MSG", "PASSED", "REPLY", "LOST") and side.start is None:
            side.refuse(found, "it comes before START")
        getattr(self, "on_" + kind.lower(), self.on_nothing)(found, side, other)
        if found.numbers:
            self.count(found, side)

    def on_nothing(self, found, side, other):
        side.counts[found.kind] += 1

    def on_hello(self, found, side, other):
        if side.hello is not None:
            side.refuse(found, "it is the second")
        side.hello = found
        if side.name == "dialling" and found["features"] & NEEDS_AUTH:
            raise WireError("dialling: HELLO: only a listening side needs AUTH", FEATURE)
        other.parser.max_payload = found["max_payload"]
        if other.hello is not None and self.past is not None:
            self.before = self.past.of(side.hello["id"], other.hello["id"])

    def on_auth(self, found, side, other):
        listening = self.sides["listening"]
        if listening.hello is None or not listening.hello["features"] & NEEDS_AUTH:
            side.refuse(found, "the listening side does not need it")
        if self.sides["dialling"].joined:
            side.refuse(found, "it comes behind JOIN")
        side.auths += 1
        # client-first, server-first, client-final, server-final
        if side.auths > 2 or side.auths - other.auths != (side.name == "dialling"):
            side.refuse(found, f"it is number {side.auths}, and the other side said {other.auths}")

    def on_join(self, found, side, other):
        if side.name == "listening":
            side.refuse(found, "only the dialling side says it")
        if side.joined:
            side.refuse(found, "it is the second")
        if other.hello is None:
            side.refuse(found, "it comes before the other's HELLO")
        if other.hello["features"] & NEEDS_AUTH and other.auths != 2:
            side.refuse(found, "it comes before the last AUTH")
        if side.hello["id"] == other.hello["id"]:
            side.refuse(found, "both sides are the same bus")
        side.joined = other.parser.joined = True

    def on_resume(self, found, side, other):
        if side.resume is not None:
            side.refuse(found, "it is the second")
        side.resume = found
        known = self.known(other, side)
        if known is not None:
            known.check_resume(found, side)
            other.asked |= known.filters

    def on_start(self, found, side, other):
        if side.start is not None:
            side.refuse(found, "it is the second")
        if side.resume is None or other.resume is None:
            side.refuse(found, "it comes before RESUME")
        side.start = found
        known = self.known(side, other)
        if known is not None:
            known.check_start(found, side, other.resume)
        if other.resume.flags & WAITED:
            side.lost = found["next"]
        elif found["id"] == other.resume["id"]:
            if found.flags & RESTARTED:
                side.refuse(found, "RESTARTED of a sequence that goes on")
            between = found["next"] - other.resume["next"]
            if between < 0:
                side.refuse(
                    found, f"{found['next']} is less than {other.resume['next']}, which is expected"
                )
            side.lost = other.resume["missing"] + between
        else:
            if found["next"] != found["missing"]:
                side.refuse(
                    found,
                    f"the first {found['next']} numbers are not those of {found['missing']} messages",
                )
            side.lost = found["next"]
        side.next = found["next"]
        side.stands.append((found.end, side.next, side.lost))

    def known(self, sender, receiver):
        """The memory of a direction."""
        if self.before is None:
            return None
        return self.before[sender.hello["id"], receiver.hello["id"]]

    def on_sub(self, found, side, other):
        side.filters.add(found["text"])
        other.asked.add(found["text"])
        side.counts["SUB"] += 1
        if len(side.filters) > MOST_FILTERS:
            side.refuse(found, f"it is filter {len(side.filters)}")

    def on_unsub(self, found, side, other):
        # Messages of the filter may be on their way: it stays among those that were asked for.
        side.filters.discard(found["text"])
        side.counts["UNSUB"] += 1

    def on_ready(self, found, side, other):
        if side.ready:
            side.refuse(found, "it is the second")
        side.ready = True

    def on_topic(self, found, side, other):
        side.topics[found.number] = found["text"]
        side.counts["TOPIC"] += 1

    def on_msg(self, found, side, other):
        hub = any(each.hello["features"] & RELAY for each in (side, other))
        event = found.flags & (RETAIN | KEPT) != KEPT
        if event and hub != (found.kind == "PASSED"):
            side.refuse(found, "an event is PASSED where one side is a hub, and nowhere else")
        if found.number not in side.topics:
            side.refuse(found, f"no TOPIC has said what {found.number} is")
        topic = found.fields["topic"] = side.topics[found.number]
        if not any(matches(filter, topic) for filter in side.asked):
            side.refuse(found, f"no filter of the peer matches {topic}")
        side.counts["KEPT" if found.flags & KEPT else "MSG"] += 1

    on_passed = on_msg

    def on_lost(self, found, side, other):
        if found.flags and not any(each.hello["features"] & RELAY for each in (side, other)):
            side.refuse(found, "a loss is passed on where one side is a hub, and nowhere else")
        side.counts["LOST"] += found["count"]

    def on_bye(self, found, side, other):
        side.bye = found.number

    def count(self, found, side):
        side.next = (side.next + found.numbers) % DEALT
        if found.kind == "LOST":
            side.lost = (side.lost + found.numbers) % DEALT
        side.stands.append((found.end, side.next, side.lost))

    def end(self, delivered=None):
        """The connection has ended; delivered: how many bytes of each side's came to the other, if not all."""
        for side in self.sides.values():
            if side.bye is not None:
                side.parser.finish()
        if self.before is None:
            return
        if CLOSED in [side.bye for side in self.sides.values()]:
            self.past.forget(*(side.hello["id"] for side in self.sides.values()))
            return
        for name in self.sides:
            side, other = self.pair(name)
            self.known(side, other).met |= self.sides["dialling"].joined
            if side.start is not None:
                reach = side.parser.offset if delivered is None else delivered[name]
                self.known(side, other).keep(side, other.resume, reach)
            if side.ready:
                self.known(other, side).filters = side.filters


class Known:
    """The memory of both sides of a direction, as far as an observer can tell."""

    def __init__(self):
        self.met = False  # they have met, and START may have been sent unseen
        self.id = None
        self.said = 0  # the next number of the sender, after all that the wire was seen to carry
        self.possible = {}  # next: lost of the receiver; one for each frame it may have been the last to handle
        self.former = {
            0
        }  # the sequences that the receiver may name if it has not handled the last START
        self.filters = set()

    def keep(self, side, resume, delivered):
        if self.id != side.start["id"]:
            self.possible, self.former = {}, {resume["id"]}
        self.id, self.said = side.start["id"], side.next
        for end, number, lost in side.stands:
            if end <= delivered:
                self.possible[number] = lost

    def check_resume(self, found, side):
        if found["id"] != self.id:
            if found["id"] not in self.former:
                side.refuse(found, f"the sequence {found['id']:#x}, of {self.former} and {self.id}")
            return
        if found["next"] not in self.possible:
            side.refuse(
                found, f"{found['next']} is none of {sorted(self.possible)[-3:]} and before"
            )
        if found["missing"] != self.possible[found["next"]]:
            side.refuse(
                found,
                f"{found['missing']} of {found['next']} did not arrive, not {self.possible[found['next']]}",
            )
        self.possible = {found["next"]: found["missing"]}
        self.former = set()

    def check_start(self, found, side, resume):
        if self.id is not None and resume["id"] == self.id:
            if found["id"] != self.id:
                side.refuse(found, f"the sequence {found['id']:#x}, and RESUME named {self.id:#x}")
            if found["next"] - found["missing"] < self.said:
                side.refuse(
                    found,
                    f"{found['missing']} before {found['next']} were never sent,"
                    f" and the wire carried {self.said}",
                )
            return
        if resume.flags & WAITED:
            if found["id"] == self.id and found["next"] - found["missing"] < self.said:
                side.refuse(found, f"{found['next']}, and the wire carried {self.said}")
            return
        if found["id"] in (self.id, resume["id"]):
            side.refuse(
                found, f"the sequence {found['id']:#x} goes on, and RESUME does not name it"
            )
        restarted = resume["id"] != 0 or self.id is not None
        unseen = self.id is None and self.met
        if bool(found.flags & RESTARTED) != restarted and not unseen:
            side.refuse(
                found,
                f"flags {found.flags}, and it is {'not' if restarted else ''} the first sequence",
            )


class History:
    """The memory of pairs of buses from connection to connection."""

    def __init__(self):
        self.directions = collections.defaultdict(Known)

    def of(self, *ids):
        one, two = ids
        return {pair: self.directions[pair] for pair in ((one, two), (two, one))}

    def forget(self, *ids):
        for pair in (ids, ids[::-1]):
            self.directions.pop(pair, None)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        for each in frames(file.read()):
            print(each.offset, each.kind, each.number, each.flags, each.fields)
