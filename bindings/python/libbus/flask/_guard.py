"""Refuses requests that another site sends through a visitor's browser.

A page of another site can make a browser ask this server, in two ways. Under its own name it is a cross-site request, which the
browser marks by Sec-Fetch-Site or Origin. Or its name begins to mean this server's address (DNS rebinding), so that the browser
takes both for one site: then the Host header is that name, which is none of ours.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask, Request

# Nobody can register a name below these for the whole Internet.
LOCAL = ("localhost", "local", "lan", "internal", "home.arpa")


def refusal(
    request: Request, app: Flask, hosts: tuple[str, ...], origins: tuple[str, ...]
) -> tuple[str, str] | None:
    """A code and a sentence; None: the request is fine."""
    if not _is_own(request.host, app, hosts):
        return (
            "HOST",
            f"this server does not know that it is called {_name(request.host)!r}: add it to init_app(hosts=[...])",
        )
    origin = request.headers.get("Origin")
    if origin is not None and origin in origins:
        return None
    site = request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return None
    if site is not None or (origin is not None and not _is_same(origin, request, hosts)):
        return (
            "ORIGIN",
            f"pages of {origin or 'another site'} may not use this bus: add that to init_app(origins=[...])",
        )
    return None


def _name(host: str) -> str:
    """Without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_own(host: str, app: Flask, hosts: tuple[str, ...]) -> bool:
    name = _name(host).lower().rstrip(".")
    if "*" in hosts or not name or "." not in name:
        return True  # no public name is without a dot
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return True
    if any(name.endswith("." + suffix) for suffix in LOCAL):
        return True
    if name in _own_names():
        return True
    known = [*hosts, *(app.config.get("TRUSTED_HOSTS") or ())]
    if server := app.config.get("SERVER_NAME"):
        known += [server, "." + _name(server)]
    return _matches(name, known)


@functools.cache
def _own_names() -> tuple[str, str]:
    """Looked up once: getfqdn() may ask a name server."""
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _matches(name: str, known: Iterable[str]) -> bool:
    """Whether a name is one of these; those with a dot in front stand for all names below, and for themselves."""
    for each in known:
        own = _name(each).lower()
        if name == own.lstrip(".") or (own.startswith(".") and name.endswith(own)):
            return True
    return False


def _is_same(origin: str, request: Request, hosts: tuple[str, ...]) -> bool:
    """Whether an Origin is this site. A proxy that sends its own Host hides the name, which hosts= then has."""
    _, _, place = origin.partition("://")
    return place == request.host or _matches(_name(place).lower(), hosts)
