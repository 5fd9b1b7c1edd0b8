"""Answer requests, and send one."""

import libbus

bus = libbus.Bus()


# task
@bus.serve("double")
def double(msg):
    return 2 * msg.value


reply = bus.request("double", 4).value
# end

assert reply == 8
bus.close()
