// A program for tsc only, never run: ./dev js.
import def, { libbus, type Bus, type Message, type State } from "../libbus.mjs";

const bus: Bus = libbus("/bus", { staleAfter: 1000, worker: false });
const off: () => void = bus.on<{ v: number }>("sensors/+/temp", (value, msg: Message<{ v: number }>) => {
	const sum: number = value.v + msg.lost;
	const topic: string = msg.topic;
	console.log(sum, topic);
}, { last: 30 });
bus.on("any", (value) => value.whatever);
bus.onstate = (state: State, reason) => console.log(state === "live", reason.length);
bus.onlost = (lost) => lost.toFixed();
bus.onreset = (reason) => reason.length;
bus.ondenied = ({ topic, message }) => console.log(topic ?? message);
bus.publish("a", [1]).then(off, (error: Error) => error.message);
globalThis.libbus().close();
def().close();

// @ts-expect-error: no such option
libbus("/bus", { stale: 1 });
// @ts-expect-error: no such state
if (bus.state === "open") off();
// @ts-expect-error: a state is read
bus.state = "live";
