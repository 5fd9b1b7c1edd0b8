"""The job: factors the numbers that it reads. It is a separate process, so it outlives a worker of the web server."""

import os
import sys
from datetime import datetime

import libbus


def factors(number):
    found, factor = [], 2
    while factor * factor <= number:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return [*found, number]


topic = f"job/{datetime.now():%H:%M:%S}/{os.getpid()}"
# The bus publishes this if the process is killed.
will = libbus.Will(topic, {"state": "failed", "error": "the process was killed"}, retain=True)

numbers = sys.stdin.read().split()

with libbus.Bus("long-job", will=will) as bus, bus.progress(topic, numbers) as job:
    for number in job:
        job.note(f"{number} = {' · '.join(map(str, factors(int(number))))}")
