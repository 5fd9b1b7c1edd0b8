"""Log records as messages."""

import logging

import libbus.logging
import libbus.testing

bus = libbus.testing.Bus()
recorder = libbus.testing.record(bus, "log/#")

# task
logging.getLogger().addHandler(handler := libbus.logging.Handler(bus))
# end

logging.getLogger("app").error("no answer from %s", "db1")
assert recorder.values("log/app")[0]["message"] == "no answer from db1"
logging.getLogger().removeHandler(handler)
