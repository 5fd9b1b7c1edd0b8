"""Refuses requests that another site sends through a visitor's browser, and lets pages of allowed sites read the answers.

A page of another site can make a browser send requests to this server in two ways. Under this server's name it is a cross-site
request, which the browser marks with Sec-Fetch-Site or Origin. Or the other site's name resolves to this server's address (DNS
rebinding), and the browser takes both for one site: then the Host header has that name, which this server does not have.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple

from libbus._pages import Refused, strings

# Names below these cannot be registered on the Internet.
LOCAL = ("localhost", "local", "lan", "internal", "home.arpa")

PORTS = {"http": "80", "https": "443"}

PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID, X-CSRFToken, X-Libbus"),
    ("Access-Control-Max-Age", "600"),
]


class Asked(NamedTuple):
    """The headers of a request that the guard reads."""

    host: str
    origin: str | None
    site: str | None  # Sec-Fetch-Site


class Guard:
    """The sites that may use a bus.

    Args:
        hosts: Names of this server besides the usual ones.
        origins: Other sites whose pages may use the bus.
        where: The call that takes these options, named in refusals.

    Raises:
        ValueError: An origin is malformed.
    """

    def __init__(
        self, hosts: str | Iterable[str], origins: str | Iterable[str], where: str
    ) -> None:
        self.hosts, self.where = strings(hosts), where
        self.origins = frozenset(_origin(each) for each in strings(origins))

    def check(self, asked: Asked, known: Iterable[str] = ()) -> None:
        """Raises Refused.

        Args:
            asked: The request.
            known: Names of this server in the configuration of the app's framework.
        """
        if not _is_own(asked.host, (*self.hosts, *known)):
            raise Refused(
                403,
                "HOST",
                f"this server does not know the name {place(asked.host)[0]!r}: add it to {self.where}(hosts=[...])",
            )
        if self._lets(asked.origin) or asked.site in ("same-origin", "none"):
            return
        if asked.site is not None or (asked.origin is not None and not self._is_same(asked)):
            raise Refused(
                403,
                "ORIGIN",
                f"pages of {asked.origin or 'another site'} may not use this bus: add the site to {self.where}(origins=[...])",
            )

    def headers(self, method: str, origin: str | None) -> list[tuple[str, str]]:
        """Headers for the response: without them a browser hides it from a page of another site."""
        if not self.origins:
            return []
        headers = [("Vary", "Origin")]
        if origin is not None and self._lets(origin):
            headers.append(("Access-Control-Allow-Origin", origin))
            headers += PREFLIGHT if method == "OPTIONS" else ()
        return headers

    def _lets(self, origin: str | None) -> bool:
        return origin is not None and _parts(origin) in self.origins

    def _is_same(self, asked: Asked) -> bool:
        """Returns whether the origin is this server. Behind a proxy that replaces Host, hosts= must have the name."""
        assert asked.origin is not None
        scheme, name, port = _parts(asked.origin)
        if scheme not in PORTS or not name:
            return False
        # TLS may end in front of this server; then only the origin has the scheme.
        here = place(asked.host, PORTS[scheme])
        if (name, port) == here:
            return True
        return not _matches(here[0], self.hosts) and any(
            _matches(name, (each,)) and port == place(each, PORTS[scheme])[1] for each in self.hosts
        )


def _origin(text: str) -> tuple[str, str, str]:
    scheme, name, port = _parts(text)
    if not scheme or not name or "/" in name + port or "*" in name:
        raise ValueError(f"origins: {text!r} is not an origin: write it like 'https://example.com'")
    return scheme, name, port


def _parts(origin: str) -> tuple[str, str, str]:
    scheme, _, host = origin.lower().rpartition("://")
    return (scheme, *place(host, PORTS.get(scheme, "")))


def place(host: str, port: str = "") -> tuple[str, str]:
    """Splits a host into name and port; `port` is the default."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        if rest and rest[0] != ":":
            return host.lower(), port
        rest = rest[1:]
    else:
        name, _, rest = host.partition(":")
    return name.lower().rstrip("."), rest or port


def _is_own(host: str, known: Iterable[str]) -> bool:
    name, _ = place(host)
    if "*" in known or not name or "." not in name:
        return True  # every public name has a dot
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return True
    if any(name.endswith("." + suffix) for suffix in LOCAL):
        return True
    return _matches(name, known) or _is_this_machine(name)


def _is_this_machine(name: str) -> bool:
    mine = socket.gethostname().lower()
    # Ask the name server only if the name can be this server's.
    return name == mine or (
        name.partition(".")[0] == mine.partition(".")[0] and name == _full_name()
    )


@functools.cache
def _full_name() -> str:
    """Looked up once: it takes seconds if the name server does not answer."""
    return socket.getfqdn().lower()


def _matches(name: str, known: Iterable[str]) -> bool:
    """Returns whether a name is in the list; an entry with a leading dot matches itself and all names below."""
    for each in known:
        own, _ = place(each)
        if name == own.lstrip(".") or (own.startswith(".") and name.endswith(own)):
            return True
    return False
