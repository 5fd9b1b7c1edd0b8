"""The web server around a request: whether its sockets can be taken over, and how many threads it has."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any, NamedTuple

from werkzeug.test import run_wsgi_app

CHEAP_PAGES = 64
UNKNOWN_PAGES = 3  # waitress, for example, has four threads
MOST_PAGES = 10_000
SPARE_DESCRIPTORS = 128  # for the app, its database and its logs


class Places(NamedTuple):
    """The limit of open pages in this process, and the text for a page over it."""

    most: int
    taken: str


def socket_of(environ: dict[str, Any]) -> Any:
    """Returns the server's connection of a request; None: the server does not show it."""
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


def kept_because(environ: dict[str, Any]) -> str:
    """Returns the reason why the server's socket cannot be taken over; "": it can."""
    sock = socket_of(environ)
    if sock is None:
        return f"this server ({name_of(environ)}) does not give access to its sockets"
    if answers_one_by_one(environ):
        return (
            "gunicorn answers the requests of an HTTP/2 connection one after the other, so pages cannot stay connected: they"
            " fetch events every 2 seconds. Let a proxy such as nginx speak HTTP/2 to keep them connected"
        )
    if hasattr(sock, "getpeercert"):
        return "TLS ends inside this server: let a proxy such as nginx do TLS, and no page holds a thread"
    if environ.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1.1"):
        return f"this server speaks {environ.get('SERVER_PROTOCOL')}: let a proxy speak it, and no page holds a thread"
    return ""


def answers_one_by_one(environ: dict[str, Any]) -> bool:
    """Returns whether a connected page would block all other requests of its browser."""
    return environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2") and gunicorn_worker() is not None


def name_of(environ: dict[str, Any]) -> str:
    # WSGI does not require a server to give its name; uWSGI, for example, does not.
    return environ.get("SERVER_SOFTWARE") or "an unnamed server"


def detached_places(max_pages: int | None) -> Places:
    if max_pages is not None:
        return _set_places(max_pages)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files - SPARE_DESCRIPTORS >= MOST_PAGES:
        return Places(MOST_PAGES, _taken(f"{MOST_PAGES}", "start more workers, or set max_pages"))
    most = max(files - SPARE_DESCRIPTORS, files // 2)
    return Places(most, _taken(f"{most}, with {files} open files", "raise `ulimit -n`"))


def thread_places(environ: dict[str, Any], max_pages: int | None) -> Places:
    """The limit of pages that each hold a thread; it leaves threads for other requests."""
    if max_pages is not None:
        return _set_places(max_pages)
    worker = gunicorn_worker()
    if worker is not None:
        return _gunicorn_places(worker)
    server = name_of(environ)
    if not environ.get("SERVER_SOFTWARE") and _in_test_client():
        return Places(
            CHEAP_PAGES, _taken(f"{CHEAP_PAGES} under Flask's own server", "set max_pages")
        )
    if not environ["wsgi.multithread"]:
        return Places(
            0,
            f"this server ({server}) handles one request at a time and cannot hold a live page: "
            "start it with threads, like gunicorn --threads 8",
        )
    if server.startswith("Werkzeug"):
        return Places(
            CHEAP_PAGES, _taken(f"{CHEAP_PAGES} under Flask's own server", "set max_pages")
        )
    return Places(
        UNKNOWN_PAGES,
        _taken(
            f"{UNKNOWN_PAGES} under {server}, whose number of threads is unknown",
            "set max_pages, to less than these threads",
        ),
    )


def _set_places(max_pages: int) -> Places:
    limit = f"max_pages={max_pages}"
    if max_pages <= 0:
        return Places(0, f"{limit} allows no live page: raise it, or leave it out")
    return Places(max_pages, _taken(limit, "raise max_pages"))


def _taken(limit: str, remedy: str) -> str:
    return f"this process has its limit of live pages open ({limit}): close a page, or {remedy}"


def _gunicorn_places(worker: Any) -> Places:
    kind, threads = worker.cfg.worker_class_str, int(worker.cfg.threads)
    if _is_kind(kind, "gthread", "ThreadWorker") and threads > 1:
        most = threads * 3 // 4
        return Places(
            most,
            _taken(
                f"{most}, with gunicorn's --threads {threads}",
                "start gunicorn with more --threads: three in four may hold pages",
            ),
        )
    if _is_kind(kind, "gevent", "GeventWorker"):
        return Places(CHEAP_PAGES, _taken(f"{CHEAP_PAGES} greenlets", "set max_pages"))
    if not _is_kind(kind, "gthread", "ThreadWorker", "sync", "SyncWorker"):
        return Places(
            0,
            f'this worker (gunicorn\'s "{kind}") serves all requests on one thread, which a live page would block: '
            "start gunicorn with --worker-class gthread --threads 8, of which 6 hold pages",
        )
    return Places(
        0,
        f'this worker (gunicorn\'s "{kind}") has one thread and cannot hold a live page: '
        "start gunicorn with --threads 8, of which 6 hold pages",
    )


def _is_kind(kind: str, *names: str) -> bool:
    return kind.rpartition(".")[2] in names


def _in_test_client() -> bool:
    """Returns whether Flask's test client runs this request: it calls the app on this thread. The environ alone proves nothing: a
    browser could send the same through a server without a name."""
    return _runs(sys._getframe(), run_wsgi_app.__code__)


def _runs(frame: Any, code: object) -> bool:
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


# --- whether this process serves ------------------------------------------------------------------------------


def gunicorn_worker() -> Any:
    """Returns gunicorn's worker of this process, or None."""
    # The SIGTERM handler is a method of the worker. In all worker classes it is the only way to the number of threads and to
    # the end of the worker that an app can reach without a gunicorn hook.
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") and hasattr(worker, "cfg") else None


def is_ending() -> bool:
    """Returns whether gunicorn has told this worker to end."""
    worker = gunicorn_worker()
    return worker is not None and not worker.alive


def serves(debug: bool) -> bool:
    """Returns whether the app is imported and its server takes requests in this process, as far as is visible before the first one.

    Searching the frames of other threads for the server is not safe: a frame may end during the search, and CPython 3.11 crashes.

    Args:
        debug: The app is in debug mode, in which Flask's own server has a reloader, a parent that does not serve.
    """
    worker = gunicorn_worker()
    if worker is not None:
        return bool(getattr(worker, "booted", True))
    return "WERKZEUG_SERVER_FD" in os.environ and (
        not debug or os.environ.get("WERKZEUG_RUN_MAIN") == "true"
    )
