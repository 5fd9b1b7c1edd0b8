"""Interpreters that end under traffic: each must end in time, with status 0 and nothing on stderr.

exits.py [ROUNDS] [--seed N]     100 rounds; each picks its activities at random, from the seed

The program of a round has threads that nothing ends and that catch no exception.
"""

import argparse
import concurrent.futures
import random
import subprocess
import sys
import time

START = """
import asyncio, contextlib, os, sys, tempfile, threading, time
import libbus

caught = {caught}

bus = libbus.Bus({place})
heard = threading.Semaphore(0)
expected = 0

def daemon(target):
    threading.Thread(target=target, daemon=True).start()

def again(function):
    def run():
        with caught:
            while True:
                function()
    daemon(run)

def run_loop(main):
    def run():
        with caught: # the program may close the bus before the loop begins
            asyncio.run(main())
    daemon(run)

def told():
    heard.release()

again(lambda: bus.publish("a/b", [1, 2, 3]))
"""

# The activities. Each reports its start, if it can.
PARTS = {
    "publisher": """
publisher = bus.publisher("a/c")
again(lambda: publisher.send_many(range(10)))
""",
    "retained": """
again(lambda: bus.publish("a/kept", "x" * 100, retain=True))
""",
    "recv": """
sub = bus.subscribe("a/#")
again(lambda: (sub.recv().value, told()))
expected += 1
""",
    "iteration": """
listened = bus.subscribe("a/#", full="latest")
def listen():
    for msg in listened:
        told()
daemon(listen)
expected += 1
""",
    "wait": """
again(lambda: (bus.wait("a/b", 60), told()))
expected += 1
""",
    "idle": """
idle = bus.subscribe("nothing/comes")
again(idle.recv)
""",
    "callback": """
@bus.on("a/#")
def handle(msg):
    msg.value
    told()
expected += 1
""",
    "slow callback": """
@bus.on("a/#", full="latest")
def slow(msg):
    told()
    time.sleep(0.02)
expected += 1
""",
    "workers": """
@bus.on("a/#", workers=3)
def work(msg):
    msg.value
    told()
expected += 1
""",
    "requests": """
@bus.serve("double")
def double(msg):
    return 2 * msg.value
def ask():
    try:
        bus.request("double", 4, timeout=1).value
        told()
    except libbus.NobodyError: # the callbacks have ended
        time.sleep(60)
    except libbus.BusTimeoutError: # others have filled the mailbox of all callbacks, and the question was dropped
        pass
again(ask)
expected += 1
""",
    "subscribe": """
again(lambda: bus.subscribe("a/#").close())
again(lambda: bus.subscribe("a/#", callback=lambda msg: None).close())
""",
    "tasks": """
async def iterate():
    async for msg in bus.subscribe("a/#"):
        msg.value
        told()
        await asyncio.sleep(0)
    await asyncio.sleep(60)
run_loop(iterate)
expected += 1
""",
    "async callback": """
async def register():
    @bus.on("a/#", full="latest")
    async def heard_in_loop(msg):
        told()
        await asyncio.sleep(0)
    await asyncio.sleep(60)
run_loop(register)
expected += 1
""",
    "link": """
peer = libbus.Bus()
peer.dial(bus.listen("inproc://" + str(id(bus))).url)
peer.on("a/#", lambda msg: told())
again(lambda: peer.publish("a/d", 1))
expected += 1
""",
    "blocked send": """
full = libbus.Bus()
slow_reader = full.subscribe("jobs", full="refuse", max_bytes=4096)
jobs = full.publisher("jobs", wait=None)
again(lambda: jobs.send(b"x" * 100))
""",
}

ENDS = {
    "falls off the end": "",
    "SystemExit": "raise SystemExit",
    "exit in the loop of the main thread": """
async def main():
    async for msg in bus.subscribe("a/#"):
        sys.exit()
asyncio.run(main())
""",
    "close": "bus.close()",
    "close in a thread": "daemon(bus.close)",
    "atexit": "import atexit; atexit.register(bus.close)",
}
# Threads catch the ClosedError of a close() that the program calls while it still runs.
CAUGHT = {"close", "close in a thread"}

PLACES = {"private": "", "named": "'exits', directory=tempfile.mkdtemp(), log_bytes=4 << 20"}

LIMIT_S = 300


def program(place: str, parts: list[str], end: str, pause: float) -> str:
    wait = f"for _ in range(3 * expected):\n    assert heard.acquire(timeout={LIMIT_S})\n"
    return "".join(
        [
            START.format(
                place=PLACES[place],
                caught="contextlib.suppress(libbus.ClosedError)"
                if end in CAUGHT
                else "contextlib.nullcontext()",
            ),
            *(PARTS[part] for part in parts),
            wait,
            f"time.sleep({pause})\n",
            ENDS[end],
        ]
    )


def choose(chance: random.Random) -> tuple[str, list[str], str, float]:
    parts = chance.sample(sorted(PARTS), chance.randint(2, 6))
    return chance.choice(sorted(PLACES)), parts, chance.choice(sorted(ENDS)), chance.random() / 50


def fault(text: str) -> str | None:
    """Returns the fault in the end of this program."""
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", text]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"has not ended after {LIMIT_S} s"
    if (process.returncode, out, err) == (0, "", ""):
        return None
    return f"status {process.returncode}\n{out}{err}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    chosen = [choose(chance) for _ in range(options.rounds)]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda each: fault(program(*each)), chosen)
        for number, (each, wrong) in enumerate(zip(chosen, found, strict=True)):
            if wrong is not None:
                place, parts, end, _ = each
                print(f"round {number}: {place}: {', '.join(parts)}; {end}: {wrong}", flush=True)
                bad += 1
    print(
        f"{options.rounds} interpreters ended under traffic, {bad} not silently; seed {options.seed}"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
