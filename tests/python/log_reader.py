"""Reads the log of a named bus by docs/internals/log-format.md alone, without the library.

Run: python3 log_reader.py FILE. Prints every record: sequence, topic, payload.
"""

import mmap
import struct
import sys

HEAD = struct.Struct("=8sII8Qq")
RECORD = struct.Struct("=IHBBIIq")
OPEN, CLAIMED = 0xFFFFFFF, 0xFFFF800


class LogReader:
    """A reader without a cursor: it copies a segment, then checks that it has not changed."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        head = HEAD.unpack_from(self.bytes)
        (
            magic,
            version,
            self.segment_count,
            self.epoch,
            file_bytes,
            self.segment_bytes,
            self.segments_begin,
        ) = head[:7]
        self.kept_begin, self.kept_bytes = head[7:9]
        self.key = head[9:11]
        if magic != b"libbuslg" or version != 4 or file_bytes != len(self.bytes):
            raise ValueError(f"{path} is no log of version 4")

    def word(self, offset):
        return struct.unpack_from("=Q", self.bytes, offset)[0]

    def tail(self):
        return self.word(128) >> 12 << 3

    def place(self, number):
        entry = self.word(20864 + number % 256 * 8)
        return entry & 255 if entry >> 8 == number else None

    def life(self, place):
        word = self.word(16768 + place * 64)
        return word >> 28, word & OPEN

    def first(self, number):
        word = self.word(22912 + number % 256 * 8)
        return word & (1 << 48) - 1 if word >> 48 == number & 0xFFFF else None

    def segment(self, number):
        """The records of a segment as bytes; None: it is gone."""
        place = self.place(number)
        if place is None or self.life(place)[0] != number:
            return None
        tail, state = self.tail(), self.life(place)[1]
        if tail // self.segment_bytes == number:
            end = tail % self.segment_bytes
        elif state < CLAIMED:
            end = state * 8
        else:
            return None
        begin = self.segments_begin + place * self.segment_bytes
        copy = bytes(self.bytes[begin : begin + end])
        return copy if self.life(place)[0] == number else None

    def listens(self, slot):
        word = struct.unpack_from("=I", self.bytes, 384 + 16 * slot + 12)[0]
        return word >> 16, word & 0xFFFF

    def value(self, topic):
        """Returns the kept payload of a topic; None: none. Takes no lock, so no process may append meanwhile."""
        record = self.newest(topic)
        return (record and record["payload"]) or None

    def newest(self, topic):
        """Returns the topic's newest retained record, possibly the mark of a deletion; None: there is none. Searches all places,
        without the hash."""
        found, places = (
            (0, None),
            range(self.kept_begin, self.kept_begin + self.kept_bytes - 23, 24),
        )
        for at in places:
            if self.word(at):
                found = max(found, self.kept(at, topic), key=lambda each: each[0])
        return found[1]

    def kept(self, at, topic):
        """The newest record of a topic in a place, behind its position."""
        for offset in (8, 16):
            position = self.word(at + offset)
            number, where = divmod(position, self.segment_bytes)
            copy = self.segment(number) if 0 < position < self.tail() else None
            if copy is not None and where < len(copy):
                record = next(split(copy, where))
                if record["topic"] == topic:
                    return position, record
        return 0, None

    def records(self):
        """Yields (sequence, record) for all present records."""
        newest = self.tail() // self.segment_bytes
        for number in range(max(1, newest - 63), newest + 1):
            first, copy = self.first(number), self.segment(number)
            if copy is None or first is None:
                continue
            news = (record for record in split(copy) if not record["flags"] & 128)
            for index, record in enumerate(news):
                yield first + index, record


def name_in(copy, topic, at):
    """The name in the record to which the one at `at` points."""
    if topic == 0:
        return None
    where = (topic - 1) * 8
    size, flags, _, padding = RECORD.unpack_from(copy, where)[:4]
    if where > at or not flags & 16384 or size > len(copy) - where:
        raise ValueError(f"the record at {at} has no name")
    words = (flags & (2 | 4 | 8 | 32 | 1024 | 2048 | 4096 | 8192)).bit_count()
    words += bool(flags & 2048) + 2 * bool(flags & 32)
    length = struct.unpack_from("=Q", copy, where + 24 + 8 * words)[0]
    end = where + size - padding
    return copy[end - length : end].decode()


LISTENS = struct.Struct("=8sIIQIIII32s48sQ")
ENTRY = struct.Struct("=HBBIQ")


def siphash(key, data):
    """SipHash-1-3."""
    mask = (1 << 64) - 1
    v = [
        word ^ key[i % 2]
        for i, word in enumerate(
            (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
        )
    ]

    def turn(word, by):
        return (word << by | word >> (64 - by)) & mask

    def rounds(count):
        for _ in range(count):
            for a, b, by in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
                v[a] = (v[a] + v[b]) & mask
                v[b] = turn(v[b], by) ^ v[a]
                if by in (13, 17):
                    v[a] = turn(v[a], 32)

    whole = len(data) // 8 * 8
    words = [word for (word,) in struct.iter_unpack("=Q", data[:whole])]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 255) << 56)
    for word in words:
        v[3] ^= word
        rounds(1)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def listens(log, path):
    """Reads the file: its head, mailboxes by bus and number, and (bus, mailbox, filter) of each filter."""
    data = path.read_bytes()
    magic, version, pid, epoch, changes, count, _, _, program, _, check = LISTENS.unpack_from(data)
    if (magic, version, epoch) != (b"libbusls", 1, log.epoch) or check != siphash(
        log.key, data[:120]
    ):
        raise ValueError(f"{path} is none of this log")
    head = {"pid": pid, "changes": changes, "filters": count}
    head["program"] = program.rstrip(b"\0").decode()
    mailboxes, filters, at = {}, [], LISTENS.size
    while at + 64 <= len(data):
        units, kind, bus, mailbox, check = ENTRY.unpack_from(data, at)
        entry = data[at : at + units * 64]
        if units == 0 or siphash(log.key, entry[:8] + bytes(8) + entry[16:]) != check:
            at += 64
            continue
        if kind == 1:
            full, drain, peer = entry[16:19]
            reached, delivered, lost, noted = struct.unpack_from("=QQQq", entry, 24)
            mailboxes[bus, mailbox] = (full, drain, peer, reached, delivered, lost, noted)
        if kind == 2:
            length = struct.unpack_from("=I", entry, 16)[0]
            filters.append((bus, mailbox, entry[20 : 20 + length].decode()))
        at += units * 64
    return head, mailboxes, filters


def split(copy, at=0):
    while at < len(copy):
        size, flags, content, padding, topic, origin, time_ns = RECORD.unpack_from(copy, at)
        if size < 24 or size % 8 or size > len(copy) - at:
            raise ValueError(f"no record at {at}")
        body, words = at + 24, {}
        for flag in (2, 4, 8):
            if flags & flag:
                words[flag] = struct.unpack_from("=Q", copy, body)[0]
                body += 8
        bus = until_ns = theirs = passed = None
        if flags & 32:
            source, place = struct.unpack_from("=16sQ", copy, body)
            passed = (source, place & (1 << 48) - 1, place >> 48 & 15)
            body += 24
        if flags & 1024:
            words[1024] = struct.unpack_from("=Q", copy, body)[0]
            body += 8
        if flags & 2048:
            bus, body = copy[body : body + 16], body + 16
        if flags & 4096:
            until_ns, body = struct.unpack_from("=Q", copy, body)[0], body + 8
        if flags & 8192:
            theirs, body = struct.unpack_from("=Q", copy, body)[0], body + 8
        name = name_in(copy, topic, at)
        end = at + size - padding
        if flags & 16384:
            end -= len(name.encode())
            body += 8
        headers = words.get(4, 0)
        yield {
            "topic": name,
            "origin": origin,
            "type": content,
            "flags": flags,
            "time_ns": time_ns,
            "expires_ns": words.get(2),
            "reply": words.get(8),
            "passed": passed,
            "changes": words.get(1024),
            "bus": bus,
            "until_ns": until_ns,
            "theirs": theirs,
            "payload": copy[body : end - headers],
            "headers": copy[end - headers : end],
        }
        at += size


if __name__ == "__main__":
    log = LogReader(sys.argv[1])
    for sequence, record in log.records():
        print(sequence, record["topic"], record["payload"])
