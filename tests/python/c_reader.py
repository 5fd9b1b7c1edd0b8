"""Payloads as C reads them: bus_value_read() of the built library, as a tree of plain values."""

import ctypes
from typing import Any, NamedTuple

from programs import BUILD

KINDS = ("NIL", "BOOL", "INT", "UINT", "FLOAT", "TEXT", "BYTES", "ARRAY", "MAP", "EXT", "TIME")
MSGPACK = 1


class Seen(NamedTuple):
    """One value; what is an int, a bool, bytes, a float or a list of Seen. A time is (seconds, nanoseconds)."""

    kind: str
    what: Any = None
    ext: int = 0  # of EXT its number, of TEXT that of the extension it came in


class Numbers(NamedTuple):
    kind: str
    item_bytes: int
    shape: tuple[int, ...]
    data: bytes


class Value(ctypes.Structure):
    pass


class As(ctypes.Union):
    _fields_ = (
        ("boolean", ctypes.c_bool),
        ("i", ctypes.c_int64),
        ("u", ctypes.c_uint64),
        ("f", ctypes.c_double),
        ("bytes", ctypes.c_void_p),
        ("items", ctypes.POINTER(Value)),
    )


Value._fields_ = (
    ("kind", ctypes.c_int),
    ("ext", ctypes.c_int8),
    ("count", ctypes.c_uint32),
    ("union", As),
)


class BusNumbers(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("kind", ctypes.c_char),
        ("item_bytes", ctypes.c_uint8),
        ("dimensions", ctypes.c_uint8),
        ("shape", ctypes.c_uint32 * 32),
    )


class Reader:
    def __init__(self):
        self.library = ctypes.CDLL(BUILD / "libbus" / "libbus.so")
        self.library.bus_value_free.argtypes = [ctypes.POINTER(Value)]
        self.library.bus_value_free.restype = None
        self.free = ctypes.CDLL(None).free
        self.free.argtypes = [ctypes.c_void_p]

    def read(self, data: bytes) -> tuple[Seen, str]:
        """The tree, and its JSON."""
        root = ctypes.POINTER(Value)()
        err = self.library.bus_value_read(
            MSGPACK, data, ctypes.c_size_t(len(data)), ctypes.byref(root)
        )
        assert err == 0, err
        try:
            return self.seen(root[0]), self.json(self.library.bus_value_json, root)
        finally:
            self.library.bus_value_free(root)

    def json_of_payload(self, data: bytes) -> str:
        """Without a tree between."""
        return self.json(self.library.bus_payload_json, MSGPACK, data, ctypes.c_size_t(len(data)))

    def json(self, function, *arguments):
        text, length = ctypes.c_void_p(), ctypes.c_size_t()
        assert function(*arguments, ctypes.byref(text), ctypes.byref(length)) == 0
        try:
            return ctypes.string_at(text, length.value).decode()
        finally:
            self.free(text)

    def seen(self, value: Value) -> Seen:
        kind, union, count = KINDS[value.kind], value.union, value.count
        match kind:
            case "NIL":
                return Seen(kind)
            case "BOOL":
                return Seen(kind, union.boolean)
            case "INT":
                return Seen(kind, union.i)
            case "UINT":
                return Seen(kind, union.u)
            case "FLOAT":
                return Seen(kind, union.f)
            case "TIME":
                return Seen(kind, (union.i, count))
            case "ARRAY" | "MAP":
                items = range(count if kind == "ARRAY" else 2 * count)
                return Seen(kind, [self.seen(union.items[at]) for at in items])
            case "EXT":
                return Seen(kind, self.numbers(value) or self.bytes(value), value.ext)
        return Seen(kind, self.bytes(value), value.ext if kind == "TEXT" else 0)

    def bytes(self, value: Value) -> bytes:
        return ctypes.string_at(value.union.bytes, value.count) if value.count else b""

    def numbers(self, value: Value) -> Numbers | None:
        found = BusNumbers()
        if self.library.bus_value_numbers(ctypes.byref(value), ctypes.byref(found)) != 0:
            return None
        shape = tuple(found.shape[: found.dimensions])
        data = ctypes.string_at(found.data, found.len) if found.len else b""
        return Numbers(found.kind.decode(), found.item_bytes, shape, data)
