import os
import threading

from paho.mqtt import publish, subscribe

port = int(os.environ["MQTT_PORT"])
threading.Timer(0.5, publish.single, ("door", "open"), {"port": port}).start()

# task
state = subscribe.simple("door", port=port).payload.decode()
# end

assert state == "open"
