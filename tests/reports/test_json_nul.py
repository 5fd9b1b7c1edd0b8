"""JSON with a NUL behind a number or a literal is not JSON, as for JSON.parse()."""

import pytest

import libbus


@pytest.mark.parametrize("raw", [b"21.5\0", b"[1\0,2]", b"true\0xyz", b"12\0\xff34", b"\0"])
def test_json_with_a_nul_is_refused(raw):
    with libbus.Bus() as bus, bus.subscribe("a") as messages:
        bus.publish_raw("a", raw, encoding="json")
        with pytest.raises(libbus.DecodeError):
            _ = messages.recv(timeout=0).value
