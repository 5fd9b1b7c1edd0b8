"""What a page does, without a browser: loads it, its script, then listens.

visit.py URL FILTER [VALUE]: prints "live" once the server has begun to send, and the first message (with that
value, if one is given); status 1 with the reason where the page cannot go live.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

LIMIT_S = 120


def get(url):
    return opener.open(url, timeout=LIMIT_S)


opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
)


def main(url, asked, wanted=None):
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            page = get(url).read().decode()
            break
        except urllib.error.URLError:  # the server is still starting
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    script = re.search(r'<script src="([^"]*libbus\.js)"', page)
    if not script:
        raise SystemExit("the page does not load libbus.js")
    script = urllib.parse.urljoin(url, script[1])
    assert b"EventSource" in get(script).read()
    events = script.replace(
        "/static/libbus.js", "/events?filter=" + urllib.parse.quote(asked, safe="")
    )
    try:
        stream = get(events)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"the page is not live: {error.code} {error.read().decode()}") from None
    for line in stream:
        if time.monotonic() > deadline:  # a heartbeat brings every silent stream round
            raise SystemExit(
                f"the page is live, but no message {wanted or ''} came within {LIMIT_S} s"
            )
        if line.startswith(b"event: hb"):
            print("live", flush=True)
        if line.startswith(b"data: {"):
            message = json.loads(line[len(b"data: ") :])
            if wanted is None or str(message["value"]) == wanted:
                print(message["topic"], message["value"], flush=True)
                return
    raise SystemExit("the server ended the stream")


main(*sys.argv[1:])
