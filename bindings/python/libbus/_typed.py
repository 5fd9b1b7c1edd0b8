"""Typed values: type= reads messages as a type, and publish() packs dataclasses and the like.

Subscribing turns a type into a function that checks and builds values. So an unsupported type raises there, and a payload that
does not match raises DecodeError when the program reads its value.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import functools
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

from libbus import _core

Convert = Callable[[Any], Any]
Reader = Callable[[_core.Message], Any]

DECODE = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_DECODE")


class MismatchError(Exception):
    """A value does not match its type. Each enclosing value adds to the path."""

    def __init__(self, text: str, *, placed: bool = False) -> None:
        self.text = text
        self.placed = placed  # the text says where
        self.path: list[Any] = []

    def __str__(self) -> str:
        if self.placed and not self.path:
            return self.text
        place = "".join(f"[{key!r:.60}]" for key in reversed(self.path))
        return f"{self.text} at value{place}"


def reader_of(kind: Any) -> Reader:
    """Returns a function that reads a message as this type. TypeError: no payload can be of it."""
    try:
        return _reader(kind)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _reader.__wrapped__(kind)


@functools.lru_cache(maxsize=256)
def _reader(kind: Any) -> Reader:
    convert = _Types().convert(kind, _name(kind))
    decode = _decode_struct(kind) if _is_struct(kind) else None

    def read(msg: _core.Message) -> Any:
        try:
            if decode is not None and msg.encoding == "msgpack":
                try:
                    return decode(msg.data)
                except MismatchError:  # may hold an extension, which msgspec does not read
                    pass
            return convert(msg._plain())
        except MismatchError as error:
            raise _not_of_type(msg, kind, error) from None

    return read


def _not_of_type(msg: _core.Message, kind: Any, why: object) -> Exception:
    error = _core.DecodeError(f"{msg.topic}: not of type {_name(kind)}: {why}")
    error.code, error.name = DECODE, "BUS_E_DECODE"
    error.topic, error.address = msg.topic, None
    return error


def _name(kind: Any) -> str:
    name = getattr(kind, "__qualname__", None)
    return (
        name
        if isinstance(kind, type) and isinstance(name, str) and not typing.get_args(kind)
        else repr(kind)
    )


# --- msgspec, if the program has imported it --------------------------------------------------------------


def _is_struct(kind: Any) -> bool:
    msgspec = sys.modules.get("msgspec")
    return msgspec is not None and isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _decode_struct(kind: Any) -> Convert:
    msgspec: Any = sys.modules["msgspec"]
    decode = msgspec.msgpack.Decoder(kind).decode

    def checked(data: bytes) -> Any:
        try:
            return decode(data)
        except msgspec.MsgspecError as error:
            raise MismatchError(str(error), placed=True) from None

    return checked


def _convert_struct(kind: Any) -> Convert:
    msgspec: Any = sys.modules["msgspec"]

    def checked(value: Any) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.MsgspecError as error:
            raise MismatchError(str(error), placed=True) from None

    return checked


# --- types into functions ----------------------------------------------------------------------------------

SIMPLE = (
    bool,
    int,
    str,
    bytes,
    datetime.datetime,
    datetime.date,
    decimal.Decimal,
    uuid.UUID,
    memoryview,
)


class _Types:
    """Makes the functions of a type and all types inside it, which may contain each other."""

    def __init__(self) -> None:
        self._made: dict[Any, Convert] = {}

    def convert(self, kind: Any, where: str) -> Convert:
        """where: the place that an error names."""
        if kind is Any or kind is object:
            return _as_it_is
        if kind is None or kind is types.NoneType:
            return _exactly(types.NoneType)
        if kind in SIMPLE:
            return _exactly(kind)
        if kind is float:
            return _float
        if isinstance(kind, type) and not typing.get_args(kind):
            made = self._class(kind, where)
        else:
            made = self._generic(kind, where)
        if made is None:
            raise TypeError(
                f"{where}: a payload cannot be read as {_name(kind)}: None, bool, int, float, str, bytes, datetime, date, Decimal,"
                " UUID, list, tuple, set, dict, numpy.ndarray, unions, Literal, enums, dataclasses, TypedDict, NamedTuple and"
                " msgspec.Struct are fine"
            )
        return made

    def _class(self, kind: type, where: str) -> Convert | None:
        if _is_struct(kind):
            return _convert_struct(kind)
        if _is_ndarray(kind):
            return _ndarray
        if issubclass(kind, enum.Enum):
            return _enum(kind)
        if dataclasses.is_dataclass(kind):
            return self._once(kind, where, self._dataclass)
        if typing.is_typeddict(kind) or hasattr(kind, "__required_keys__"):
            return self._once(kind, where, self._typed_dict)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._once(kind, where, self._named_tuple)
        return self._container(kind, (), where)

    def _generic(self, kind: Any, where: str) -> Convert | None:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if _is_ndarray(origin):  # numpy.typing.NDArray
            return _ndarray
        if hasattr(kind, "__supertype__"):  # NewType
            return self.convert(kind.__supertype__, where)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(args, where)
        if origin is typing.Literal:
            return _literal(args)
        if origin is typing.Annotated or getattr(
            origin, "__name__", getattr(origin, "_name", None)
        ) in (
            "Required",
            "NotRequired",
            "ReadOnly",
        ):
            return self.convert(args[0], where)
        return self._container(origin, args, where) if isinstance(origin, type) else None

    def _once(self, kind: type, where: str, make: Callable[[type, str], Convert]) -> Convert:
        """A class may contain itself: a function requested before it exists is looked up when it is called."""
        if kind not in self._made:
            self._made[kind] = lambda value: self._made[kind](value)
            self._made[kind] = make(kind, where)
        return self._made[kind]

    def _hints(self, kind: type, where: str) -> dict[str, Convert]:
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"{where}: {error}: its annotations may only use names of its module"
            ) from None
        return {
            name: self.convert(hint, f"{where}.{name}")
            for name, hint in hints.items()
            if typing.get_origin(hint) is not typing.ClassVar
            and not isinstance(hint, dataclasses.InitVar)
        }

    def _dataclass(self, kind: Any, where: str) -> Convert:
        hints = self._hints(kind, where)
        fields = [field for field in dataclasses.fields(kind) if field.init]
        convert = [(field.name, hints[field.name]) for field in fields]
        needed = {
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }

        def build(value: Any) -> Any:
            return kind(**_members(value, convert, needed))

        return build

    def _typed_dict(self, kind: Any, where: str) -> Convert:
        convert = list(self._hints(kind, where).items())
        needed = set(kind.__required_keys__)
        return lambda value: _members(value, convert, needed)

    def _named_tuple(self, kind: Any, where: str) -> Convert:
        hints = self._hints(kind, where)
        convert = [hints.get(name, _as_it_is) for name in kind._fields]
        least = len(kind._fields) - len(kind._field_defaults)

        def build(value: Any) -> Any:
            _check(list, value)
            if not least <= len(value) <= len(convert):
                raise MismatchError(f"{len(convert)} elements are needed, not {len(value)},")
            return kind(*_elements(convert, value))

        return build

    def _container(self, kind: Any, args: tuple[Any, ...], where: str) -> Convert | None:
        if kind is tuple and args and args[-1] is not Ellipsis:
            return self._tuple(args, where)
        if kind in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
            key, item = args or (Any, Any)
            return self._dict(key, item, where)
        make: dict[Any, Callable[[list[Any]], Any]] = {
            list: list,
            collections.abc.Sequence: list,
            collections.abc.MutableSequence: list,
            collections.abc.Iterable: list,
            collections.abc.Collection: list,
            tuple: tuple,
            set: set,
            frozenset: frozenset,
        }
        if kind not in make:
            return None
        return self._list(make[kind], args[0] if args else Any, where)

    def _list(self, make: Callable[[list[Any]], Any], item: Any, where: str) -> Convert:
        convert = self.convert(item, where)

        def build(value: Any) -> Any:
            _check(list, value)
            try:
                return make(_elements([convert] * len(value), value))
            except TypeError:  # an element that cannot be in a set
                raise MismatchError("elements that can be hashed are needed") from None

        return build

    def _tuple(self, args: tuple[Any, ...], where: str) -> Convert:
        convert = [] if args == ((),) else [self.convert(arg, where) for arg in args]

        def build(value: Any) -> Any:
            _check(list, value)
            if len(value) != len(convert):
                raise MismatchError(f"{len(convert)} elements are needed, not {len(value)},")
            return tuple(_elements(convert, value))

        return build

    def _dict(self, key: Any, item: Any, where: str) -> Convert:
        keys, items = self.convert(key, where), self.convert(item, where)

        def build(value: Any) -> Any:
            _check(dict, value)
            made = {}
            for name, member in value.items():
                try:
                    made[keys(name)] = items(member)
                except MismatchError as error:
                    error.path.append(name)
                    raise
            return made

        return build

    def _union(self, args: tuple[Any, ...], where: str) -> Convert:
        choices = [(arg, self.convert(arg, where)) for arg in args]
        # A value has exactly one of these types, so a union of int and float tells them apart.
        exact = {
            arg: convert for arg, convert in choices if arg in (*SIMPLE, float, types.NoneType)
        }
        others = [convert for arg, convert in choices if arg not in exact or arg is float]
        names = " or ".join(_name(arg) for arg in args)

        def build(value: Any) -> Any:
            if (convert := exact.get(type(value))) is not None:
                return convert(value)
            wrong = []
            for convert in others:
                try:
                    return convert(value)
                except MismatchError as error:
                    wrong.append(error)
            if len(wrong) == 1 and wrong[0].path:
                raise wrong[0]
            raise _needs(names, value)

        return build


def _needs(names: str, value: Any) -> MismatchError:
    return MismatchError(f"{names} is needed, not {type(value).__name__},")


def _check(kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise _needs(kind.__name__, value)


def _as_it_is(value: Any) -> Any:
    return value


def _exactly(kind: type) -> Convert:
    name = "None" if kind is types.NoneType else kind.__name__

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _needs(name, value)
        return value

    return check


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _needs("float", value)
    return float(value)


def _enum(kind: type[enum.Enum]) -> Convert:
    def find(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise MismatchError(f"{value!r:.60} is not a {_name(kind)},") from None

    return find


def _is_ndarray(kind: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray


def _ndarray(value: Any) -> Any:
    if not isinstance(value, memoryview):
        raise _needs("an array", value)
    numpy: Any = sys.modules["numpy"]
    return numpy.asarray(value)


def _literal(args: tuple[Any, ...]) -> Convert:
    choices = {(type(arg), arg) for arg in args}

    def check(value: Any) -> Any:
        if isinstance(value, (list, dict)) or (type(value), value) not in choices:
            raise MismatchError(f"{value!r:.60} is not one of {', '.join(map(repr, args))},")
        return value

    return check


def _elements(convert: list[Convert], values: list[Any]) -> list[Any]:
    made = []
    for function, value in zip(convert, values, strict=False):
        try:
            made.append(function(value))
        except MismatchError as error:
            error.path.append(len(made))
            raise
    return made


def _members(value: Any, convert: list[tuple[str, Convert]], needed: set[str]) -> dict[str, Any]:
    """Leaves out keys that the type lacks: a newer program may have sent them."""
    _check(dict, value)
    made = {}
    for name, function in convert:
        if name not in value:
            if name in needed:
                raise MismatchError(f"the key {name!r} is missing")
            continue
        try:
            made[name] = function(value[name])
        except MismatchError as error:
            error.path.append(name)
            raise
    return made


# --- packing: called by the packer for types that it does not know -------------------------------------------


def plain(value: Any) -> Any:
    """Returns the value to pack instead: a dict for a dataclass or a msgspec.Struct, the value of an enum, the pixels of an
    image. NotImplemented: the type cannot be packed."""
    if isinstance(value, type):
        return NotImplemented
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if _is_struct(type(value)):
        return _members_of_struct(value)
    if hasattr(type(value), "__array_interface__"):
        return _array_of(value.__array_interface__)
    return NotImplemented


def _members_of_struct(value: Any) -> Any:
    """Converts a struct as msgspec does, with renames, tags and omissions, but not its members: msgspec takes some of their types
    for others (Ext for a tuple) and does not know arrays."""
    msgspec: Any = sys.modules["msgspec"]
    config = value.__struct_config__
    members = [getattr(value, name) for name in value.__struct_fields__]
    tagged = config.tag is not None
    if config.array_like:
        return [config.tag, *members] if tagged else members
    made = {config.tag_field: config.tag} if tagged else {}
    without = (
        len(members) - len(value.__struct_defaults__) if config.omit_defaults else len(members)
    )
    for at, (name, member) in enumerate(zip(value.__struct_encode_fields__, members, strict=True)):
        omitted = at >= without and _is_default(member, value.__struct_defaults__[at - without])
        if member is not msgspec.UNSET and not omitted:
            made[name] = member
    return made


def _is_default(member: Any, default: Any) -> bool:
    """Returns the default as msgspec compares it: the default itself, or an empty value of the same type for a factory."""
    factory = getattr(default, "factory", None)
    empty = factory in (list, dict, set) and type(member) is factory and not member
    return member is default or (type(default).__name__ == "Factory" and empty)


# NumPy's type strings, by memoryview's formats.
BYTE_FORMATS = {"b1": "?", "i1": "b", "u1": "B"}
FORMATS: dict[str, Any] = {
    **{f"{order}{kind}": name for order in "<|" for kind, name in BYTE_FORMATS.items()},
    "<i2": "h",
    "<i4": "i",
    "<i8": "q",
    "<u2": "H",
    "<u4": "I",
    "<u8": "Q",
    "<f4": "f",
    "<f8": "d",
}


def _array_of(interface: dict[str, Any]) -> Any:
    """Reads NumPy's array interface without NumPy, if it gives one row of bytes; otherwise NumPy reads it, if imported."""
    given: Any = interface.get("data")
    row: Any = None if isinstance(given, tuple) or interface.get("strides") else given
    kind = FORMATS.get(interface["typestr"])
    if row is not None and kind is not None and sys.byteorder == "little":
        return memoryview(row).cast("B").cast(kind, interface["shape"])
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return NotImplemented
    return numpy.asarray(types.SimpleNamespace(__array_interface__=interface))
