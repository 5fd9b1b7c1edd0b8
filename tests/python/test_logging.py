"""libbus.logging: log records arrive as messages, and its failures do not affect the program."""

import asyncio
import logging
import logging.config
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone

import pytest
from patience import WATCHDOG
from programs import LIBBUS, started

import libbus
import libbus.logging
import libbus.testing


@pytest.fixture
def logger():
    """A logger whose records go to its own handlers alone, with those below it."""
    logger = logging.getLogger("app")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    for one in (logger, logging.getLogger("libbus")):
        for handler in list(one.handlers):
            one.removeHandler(handler)
    logger.propagate = True


@pytest.fixture
def handler(bus, logger):
    handler = libbus.logging.Handler(bus)
    logger.addHandler(handler)
    return handler


@pytest.fixture
def records(bus):
    return libbus.testing.record(bus, "log/#")


def test_a_record_is_a_message_on_the_topic_of_its_logger(logger, handler, records):
    things = [1]
    logging.getLogger("app.db.pool").warning("no answer from %s", things, extra={"port": 5432})
    things.append(2)  # the arguments were formatted where it was logged
    assert records.topics == ["log/app/db/pool"]
    (payload,) = records.values()
    now = datetime.now(timezone.utc)
    assert now - timedelta(seconds=WATCHDOG) < payload.pop("time") <= now
    assert payload == {
        "level": "WARNING",
        "message": "no answer from [1]",
        "name": "app.db.pool",
        "process": os.getpid(),
        "extra": {"port": 5432},
    }
    assert list(records.messages[0].value)[:2] == ["level", "message"]  # what people read first
    assert records.values("log/app/#") == records.values()


def test_levels_filters_and_formatters_work_as_for_other_handlers(logger, handler, records):
    handler.setLevel("WARNING")
    handler.addFilter(lambda record: "secret" not in record.msg)
    handler.setFormatter(logging.Formatter("%(name)s says %(message)s"))
    logger.info("quiet")
    logger.error("secret")
    logger.error("loud")
    assert [each["message"] for each in records.values()] == ["app says loud"]
    assert handler.dropped == 0


def test_an_exception_and_a_stack_are_text(logger, handler, records):
    try:
        {}["door"]
    except KeyError:
        logger.exception("it broke")
    logger.info("here", stack_info=True)
    broke, here = records.values()
    assert broke["exception"].startswith("Traceback (most recent call last):\n")
    assert broke["exception"].endswith("KeyError: 'door'")
    assert "Stack (most recent call last)" in here["stack"]
    assert "exception" not in here


def test_an_unpackable_value_is_logged_as_text(logger, handler, records):
    class Broken:
        def __repr__(self):
            raise RuntimeError("no words")

    logger.info("a", extra={"thing": range(3), "broken": Broken(), "list": [1, None]})
    logger.info("half a pair \udc80", extra={"half": "\udc80"})
    logger.info("large " + "x" * 3_000_000, extra={"fine": 1})
    logging.getLogger("app.+/#").info("its name is no topic")
    assert records.topics == ["log/app", "log/app", "log/app", "log/app/_/_"]
    first, half, large, _ = records.values()
    assert first["extra"]["thing"] == "range(0, 3)"
    assert first["extra"]["list"] == [1, None]
    assert first["extra"]["broken"] == "<Broken, whose repr() raises RuntimeError>"
    assert half["message"] == "half a pair \\udc80"
    assert large["message"].startswith("large xxx")
    assert len(large["message"]) < 3000
    assert handler.dropped == 0


def test_unpublishable_records_are_counted_and_reported(bus, logger, handler, caplog):
    jobs = bus.subscribe("log/#", full="refuse", max_bytes=4096)
    handler.setLevel("INFO")
    sent = 0
    while handler.dropped < 3:
        logger.info("%s", "x" * 500)
        sent += 1
    warnings = [each for each in caplog.records if each.name == "libbus"]
    assert len(warnings) == 1
    assert warnings[0].getMessage().startswith("log records are dropped: FullError: log/app: ")
    assert len(list(jobs.iter(timeout=0))) == sent - 3
    logger.info("again")
    logger.info("and again")
    again, then = jobs.iter(timeout=0)
    assert again.value["dropped"] == 3
    assert "dropped" not in then.value


def test_a_closed_bus_causes_no_error(bus, logger, handler, capfd, caplog):
    bus.close()
    logger.error("too late")
    assert handler.dropped == 1
    assert capfd.readouterr().err == ""
    assert "libbus" not in [each.name for each in caplog.records]


def test_a_record_whose_arguments_do_not_fit_arrives_and_shows_them(logger, handler, records):
    handler.handle(logger.makeRecord("app", logging.INFO, "a.py", 1, "%d apples", ("no",), None))
    (payload,) = records.values()
    assert payload["message"] == "%d apples with ('no',): TypeError while its text was formatted"
    assert handler.dropped == 0


ALONE = """
import logging
import libbus, libbus.logging

bus = libbus.Bus()
handler = libbus.logging.Handler(bus)
logging.getLogger().addHandler(handler)
bus.publish = None  # whatever is wrong with it
logging.error("first")
logging.error("second")
assert handler.dropped == 2
"""


def test_without_other_handlers_stderr_reports_drops():
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=WATCHDOG
    )
    told = "log records are dropped: TypeError: 'NoneType' object is not callable\n"
    assert done.stderr == told


# --- circles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [None, 2])
def test_a_callback_that_logs_log_messages_does_not_loop(bus, logger, handler, workers):
    heard = []

    class Receiver:
        def method(self, msg):
            self.write(msg)

        def write(self, msg):
            heard.append(msg.value["message"])
            logger.info("heard of %s", msg.topic)

    bus.on("log/#", Receiver().method, workers=workers)
    bus.on("door", lambda msg: logger.info("the door is %s", msg.value))
    logger.info("first")
    bus.publish("door", "open")
    bus.flush(WATCHDOG)
    bus.flush(WATCHDOG)
    assert sorted(heard) == ["first", "the door is open"]
    assert handler.dropped == 2


def test_a_callback_that_raises_on_log_messages_does_not_loop(bus, logger):
    handler = libbus.logging.Handler(bus)
    logging.getLogger("libbus").addHandler(handler)
    logger.addHandler(handler)
    tried = []

    def failing(msg):
        tried.append(msg.topic)
        raise ValueError

    bus.on("log/#", failing)
    bus.on("log/#", int, type=list[int])
    logger.info("first")
    for _ in range(3):
        bus.flush(WATCHDOG)
    assert tried == ["log/app"]


def test_failures_of_callbacks_can_be_read_from_the_bus(bus, records):
    logging.getLogger("libbus").addHandler(handler := libbus.logging.Handler(bus))
    try:
        bus.on("door", lambda msg: 1 / 0)
        bus.publish("door", "open")
        (failed,) = records.wait(1, WATCHDOG)
    finally:
        logging.getLogger("libbus").removeHandler(handler)
    assert failed.topic == "log/libbus"
    assert "ZeroDivisionError" in failed.value["exception"]


def test_an_async_callback_that_logs_does_not_loop(logger):
    async def main():
        async with libbus.Bus() as bus:
            logger.addHandler(libbus.logging.Handler(bus))
            heard = []

            @bus.on("log/#")
            async def receive(msg):
                await asyncio.sleep(0)
                heard.append(msg.value["message"])
                logger.info("heard of it")

            logger.info("first")
            while not heard:
                await asyncio.sleep(0.001)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert heard == ["first"]

    asyncio.run(main())


def test_logging_while_a_record_is_published_does_not_loop(logger, handler, records):
    class Chatty:
        def __repr__(self):
            logger.info("somebody looks at me", extra={"me": self})
            return "chatty"

    logger.info("first", extra={"me": Chatty()})
    (first,) = records.values()
    assert first["extra"] == {"me": "chatty"}
    assert handler.dropped == 1


def test_bad_arguments_raise_at_the_call(bus):
    with pytest.raises(TypeError, match=r"bus must be a libbus.Bus, or the name of one, not None"):
        libbus.logging.Handler(None)
    with pytest.raises(libbus.FilterError, match="log/#/x: malformed filter"):
        libbus.logging.Handler(bus, topic="log/#")
    assert repr(libbus.logging.Handler(bus, level="INFO")) == "<libbus.logging.Handler log/# INFO>"


# --- how it is set up -----------------------------------------------------------------------------------------


def test_dictconfig_takes_a_bus_or_the_name_of_one(tmp_path, bus, logger, records):
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "<%(message)s>"}},
            "handlers": {
                "bus": {
                    "class": "libbus.logging.Handler",
                    "bus": bus,
                    "topic": "logs",
                    "level": "INFO",
                    "formatter": "short",
                },
                "named": {
                    "class": "libbus.logging.Handler",
                    "bus": f"test-logging-{os.getpid()}",
                },
            },
            "loggers": {"app": {"handlers": ["bus", "named"]}},
        }
    )
    first, second = logger.handlers
    got = libbus.testing.record(bus, "logs/#")
    with libbus.Bus(second.bus.name) as other, libbus.testing.record(other, "log/#") as others:
        logger.info("hello")
        assert others.values()[0]["message"] == "hello"
    assert [msg.value["message"] for msg in got] == ["<hello>"]
    assert records.messages == []
    first.close()
    assert not bus.closed
    second.close()
    assert second.bus.closed


def test_threads_log_at_the_same_time(logger, handler, records):
    def work(n):
        for _ in range(100):
            logger.info("%s", n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each["message"] for each in records.values()) == sorted(list("0123") * 100)


def test_the_command_shows_records_one_a_line(tmp_path, logger):
    with libbus.Bus("test", directory=tmp_path) as bus:
        logger.addHandler(libbus.logging.Handler(bus))
        logger.error("no answer from %s", "db1")
        command = ["sub", "--dir", tmp_path, "test", "log/#", "--oldest", "--count", "1"]
        with started(LIBBUS, *command) as sub:
            assert sub.stdout.readline().startswith(
                'log/app {"level":"ERROR","message":"no answer from db1","name":"app","time":"20'
            )
