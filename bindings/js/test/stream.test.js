"use strict";
const test = require("node:test");
const assert = require("node:assert");
const { start } = require("./support/server.js");
const { EventSource } = require("./support/eventsource.js");

globalThis.EventSource = EventSource;
const { libbus } = require(process.env.LIBBUS_JS || "../libbus.js");

const PATIENCE_MS = 120000;
const SHORT = { retryMs: 20, maxRetryMs: 100 };

async function until(condition, what = condition.toString()) {
	for (const end = Date.now() + PATIENCE_MS; !condition();) {
		assert.ok(Date.now() < end, `waited for ${what}`);
		await new Promise((done) => setTimeout(done, 5));
	}
}

const numbers = (from, until) => Array.from({ length: until - from }, (_, i) => from + i);

/* A test with a server, a function that opens buses on it, and the console's warnings. */
function scene(name, fn) {
	test(name, async (context) => {
		const server = await start(), buses = [], warnings = [];
		context.mock.method(console, "warn", (text) => warnings.push(text));
		const open = (options) => {
			const bus = libbus(server.url + "/bus", { ...SHORT, ...options });
			buses.push(bus);
			bus.states = [];
			bus.onstate = (state, reason) => bus.states.push([state, reason]);
			return bus;
		};
		try {
			await fn({ server, open, warnings });
		} finally {
			buses.forEach((bus) => bus.close());
			await server.close();
		}
	});
}

/* Records a listener: its values, and all messages. */
function hear(bus, filter, past) {
	const heard = { values: [], kept: [], messages: [] };
	heard.off = bus.on(filter, (value, msg) => {
		heard.messages.push(msg);
		(msg.kept ? heard.kept : heard.values).push(value);
	}, past);
	return heard;
}

/* True once the bus is live and every listener has its kept values. */
async function settled(bus, server) {
	await until(() => bus.state === "live" && bus.stream.live && !bus.stream.settling && server.open.size === 1 &&
		bus.stream.listeners().every(({ phase }) => phase === 2) && new Set(bus.stream.listeners().map(({ filter }) => filter)).size === bus.stream.count);
}

scene("a message has its topic, its value and whether it was kept", async ({ server, open }) => {
	server.publish("a/kept", { x: 1 }, { retain: true });
	const bus = open(), heard = hear(bus, "a/+");
	await settled(bus, server);
	server.publish("a/b", [9007199254740993n.toString(), "ü\u2028"]);
	server.publish("b", 0);
	await until(() => heard.messages.length === 2);
	assert.deepEqual(heard.messages, [
		{ topic: "a/kept", value: { x: 1 }, kept: true, lost: 0 },
		{ topic: "a/b", value: ["9007199254740993", "ü\u2028"], kept: false, lost: 0 },
	]);
	assert.deepEqual(bus.states, [["live", ""]]);
});

scene("listeners added under traffic cost the earlier ones no message", async ({ server, open }) => {
	const bus = open(), first = hear(bus, "n");
	await settled(bus, server);
	server.stream("n", 0, 90, 5);
	const others = [];
	for (let i = 0; i < 6; i++) {
		await until(() => first.values.length >= 12 * (i + 1));
		others.push(hear(bus, i % 2 ? `other/${i}` : "n"));
	}
	await until(() => first.values.length >= 90);
	assert.deepEqual(first.values, numbers(0, 90));
	assert.ok(server.queries.length > 1);
	for (const { values } of others.filter((_, i) => i % 2 === 0))
		assert.deepEqual(values, numbers(values[0] ?? 90, 90));
});

scene("a broken connection resumes where it broke", async ({ server, open, warnings }) => {
	const bus = open(), heard = hear(bus, "n");
	await settled(bus, server);
	server.stream("n", 0, 300, 1);
	for (let i = 1; i < 5; i++) {
		await until(() => heard.values.length > 40 * i && server.open.size > 0);
		server.cut();
	}
	await until(() => heard.values.length >= 300);
	assert.deepEqual(heard.values, numbers(0, 300));
	assert.equal(heard.messages.filter(({ lost }) => lost).length, 0);
	assert.deepEqual(warnings, []);
});

scene("a client reconnects without a warning to a server that ended on purpose", async ({ server, open, warnings }) => {
	const bus = open(), heard = hear(bus, "n");
	await settled(bus, server);
	server.burst("n", 0, 10);
	server.end(100);
	server.burst("n", 10, 10);
	await until(() => heard.values.length >= 20);
	assert.deepEqual(heard.values, numbers(0, 20));
	assert.deepEqual(bus.states, [["live", ""], ["reconnecting", ""], ["live", ""]]);
	assert.deepEqual([warnings, server.asked], [[], 0]);
});

scene("a client waits out a 503, shows its reason, and misses no message", async ({ server, open, warnings }) => {
	const bus = open(), heard = hear(bus, "n");
	await settled(bus, server);
	server.burst("n", 0, 10);
	await until(() => heard.values.length === 10);
	server.refusal = { status: 503, code: "BUSY", message: "no place" };
	server.cut();
	server.burst("n", 10, 10);
	await until(() => server.asked > 5);
	assert.deepEqual([bus.state, bus.reason], ["reconnecting", "no place"]);
	server.refusal = null;
	await until(() => bus.state === "live" && heard.values.length >= 20);
	assert.deepEqual(heard.values, numbers(0, 20));
	assert.deepEqual([bus.reason, warnings], ["", ["libbus: no place"]]);
});

scene("an id of another life brings a reset, and the kept values to every listener", async ({ server, open, warnings }) => {
	server.publish("a", 1, { retain: true });
	const bus = open(), heard = hear(bus, "a"), other = hear(bus, "#"), reasons = [];
	bus.onreset = (reason) => reasons.push(reason);
	await settled(bus, server);
	server.reborn();
	await until(() => reasons.length === 1);
	server.publish("a", 2);
	await until(() => heard.values.length === 1 && other.values.length === 1);
	assert.deepEqual([heard.kept, other.kept, reasons], [[1, 1], [1, 1], ["this id is of another life"]]);
	server.reborn();
	await until(() => reasons.length === 2);
	assert.deepEqual(warnings, ["libbus: events were missed: this id is of another life"]);
});

scene("the next message has the count of a gap", async ({ server, open }) => {
	const bus = open(), heard = hear(bus, "n"), lost = [];
	bus.onlost = (n) => lost.push(n);
	await settled(bus, server);
	server.publish("n", 0);
	server.gap(7);
	server.gap(2);
	await until(() => lost.length === 2);
	server.burst("n", 1, 2);
	await until(() => heard.messages.length === 3);
	assert.deepEqual(heard.messages.map((msg) => msg.lost), [0, 9, 0]);
	assert.deepEqual(lost, [7, 2]);
});

scene("a denied topic is reported to the listeners of its filter", async ({ server, open, warnings }) => {
	const mine = open(), other = open(), denied = { mine: [], other: [] };
	hear(mine, "room/+");
	hear(other, "public");
	mine.ondenied = (what) => denied.mine.push(what);
	other.ondenied = (what) => denied.other.push(what);
	await settled(mine, server);
	const topic = { topic: "room/1", message: "not your room" }, filter = { filter: "room/+", message: "log in" };
	server.deny(topic);
	server.deny(filter);
	server.deny({ filter: "room/2", message: "nobody asked" });
	server.publish("public", 1);
	await until(() => denied.mine.length === 2);
	assert.deepEqual(denied, { mine: [topic, filter], other: [] });
	assert.deepEqual(warnings, ["libbus: not your room", "libbus: log in"]);
});

scene("a refused filter closes the bus that has it, and no other", async ({ server, open }) => {
	server.allowed = ["a"];
	const good = open(), heard = hear(good, "a");
	await settled(good, server);
	const bad = open();
	hear(bad, "b");
	server.stream("a", 0, 50, 2);
	await until(() => bad.state === "closed" && heard.values.length >= 50);
	assert.equal(bad.reason, "pages may not listen to 'b'");
	assert.deepEqual(heard.values, numbers(0, 50));
	assert.equal(good.state, "live");
});

scene("buses of a tab share one connection", async ({ server, open }) => {
	const buses = numbers(0, 5).map(() => open()), heard = buses.map((bus, i) => hear(bus, `n/${i}`));
	await settled(buses[0], server);
	numbers(0, 5).forEach((i) => server.publish(`n/${i}`, i));
	await until(() => heard.every(({ values }) => values.length === 1));
	assert.deepEqual(heard.map(({ values }) => values[0]), numbers(0, 5));
	assert.equal(server.queries.length, 1);
});

scene("a second listener of a filter gets the kept values, the first one not again", async ({ server, open }) => {
	server.publish("a", 1, { retain: true });
	const bus = open(), first = hear(bus, "a");
	await until(() => first.kept.length === 1);
	const other = hear(bus, "a"); // no new filter
	await until(() => other.kept.length === 1);
	await settled(bus, server);
	const second = hear(bus, "a"), wider = hear(bus, "#");
	await until(() => second.kept.length === 1 && wider.kept.length === 1);
	await settled(bus, server);
	server.publish("a", 2);
	await until(() => [first, second, wider].every(({ values }) => values.length === 1));
	assert.deepEqual([first.kept, second.kept, wider.kept], [[1], [1], [1]]);
});

scene("only the listener that asks for history gets it", async ({ server, open }) => {
	server.burst("n", 0, 100);
	server.publish("state", "on", { retain: true });
	const bus = open(), plain = hear(bus, "n"), ten = hear(bus, "n", { last: 10 }), state = hear(bus, "state"), three = hear(bus, "#", { last: 3 });
	await until(() => state.kept.length === 1);
	await settled(bus, server);
	server.publish("n", 100);
	await until(() => [plain, ten, three].every(({ values }) => values.at(-1) === 100));
	assert.deepEqual(plain.values, [100]);
	assert.deepEqual(ten.values, numbers(90, 101));
	assert.deepEqual(three.values, [98, 99, "on", 100]);
	assert.deepEqual([state.values, state.kept], [[], ["on"]]);

	const late = hear(bus, "n", { last: 20 });
	await until(() => late.values.length === 20);
	await settled(bus, server);
	server.publish("n", 101);
	await until(() => [plain, ten, three, late].every(({ values }) => values.at(-1) === 101));
	assert.deepEqual(late.values, numbers(81, 102));
	assert.deepEqual(ten.values, numbers(90, 102));
	assert.deepEqual(plain.values, [100, 101]);
});

scene("history requested under traffic arrives once and in order", async ({ server, open }) => {
	const bus = open(), first = hear(bus, "n");
	await settled(bus, server);
	server.stream("n", 0, 200, 2);
	const late = [];
	for (let i = 1; i < 5; i++) {
		await until(() => first.values.length > 40 * i);
		late.push(hear(bus, "n", { last: 5 * i }));
	}
	await until(() => first.values.length >= 200 && late.every(({ values }) => values.at(-1) === 199));
	assert.deepEqual(first.values, numbers(0, 200));
	for (const { values } of late)
		assert.deepEqual(values, numbers(values[0], 200));
});

scene("each listener gets the history of its own filter and length", async ({ server, open }) => {
	for (let i = 0; i < 20; i++) {
		server.publish("a", i);
		server.publish("b", 100 + i);
	}
	const bus = open(), first = hear(bus, "a");
	await settled(bus, server);
	const late = [["a", 3], ["b", 3], ["#", 5], ["b", 8]].map(([filter, last]) => hear(bus, filter, { last }));
	server.publish("a", 20);
	await until(() => late.every(({ values }) => values.length >= 3));
	await settled(bus, server);
	server.publish("b", 120);
	server.publish("a", 21);
	await until(() => [first, late[0], late[2]].every(({ values }) => values.at(-1) === 21));
	const counts = late.map(({ values }) => values);
	assert.deepEqual(first.values, [20, 21]);
	assert.deepEqual(counts[0].slice(-4), [18, 19, 20, 21].slice(-counts[0].length));
	assert.deepEqual(counts[1], [117, 118, 119, 120]);
	assert.deepEqual(counts[2].slice(-4), [119, 20, 120, 21]);
	assert.equal(counts[2].length, 7);
	assert.deepEqual(counts[3], [112, 113, 114, 115, 116, 117, 118, 119, 120]);
});

scene("a page stops requesting a filter without listeners", async ({ server, open }) => {
	const bus = open(), kept = hear(bus, "a"), gone = hear(bus, "b"), twice = hear(bus, "a");
	await settled(bus, server);
	twice.off();
	gone.off();
	gone.off();
	await until(() => server.queries.length === 2 && server.open.size === 1);
	assert.match(server.queries[1], /^filter=a&after=1-0$/);
	server.publish("a", 1);
	await until(() => kept.values.length === 1);
	assert.deepEqual(twice.values, []);
	kept.off();
	await until(() => server.open.size === 0);
	assert.equal(bus.state, "connecting");
});

scene("a page of a server without ids starts again at each connection", async ({ server, open }) => {
	server.ids = false;
	server.publish("a", 1, { retain: true });
	const bus = open(), heard = hear(bus, "a"), history = hear(bus, "n", { last: 3 });
	await settled(bus, server);
	const later = hear(bus, "b");
	await until(() => server.queries.at(-1).includes("filter=b"));
	await settled(bus, server);
	const { length } = server.queries;
	server.cut();
	await until(() => server.queries.length > length);
	await settled(bus, server);
	assert.ok(server.queries.every((query) => !/after|new/.test(query)), server.queries.join(" "));
	["a", "b", "n"].forEach((topic) => server.publish(topic, 2));
	await until(() => [heard, later, history].every(({ values }) => values.length === 1));
	assert.ok(heard.kept.length >= 2);
});

scene("a client leaves a server that falls silent", async ({ server, open }) => {
	server.heartbeat = 0.1;
	const bus = open(), heard = hear(bus, "n");
	await settled(bus, server);
	server.silent = true;
	await until(() => bus.states.length > 1);
	server.silent = false;
	assert.match(bus.states[1].join(), /^reconnecting,no sign of life from .* for 0.25 s/);
	await settled(bus, server);
	server.publish("n", 1);
	await until(() => heard.values.length === 1);
});

scene("after a sleep the clock shows that the connection is stale", async ({ server, open }) => {
	server.heartbeat = 2; // looked at when it would be silent, and every few seconds
	const bus = open();
	hear(bus, "n");
	await settled(bus, server);
	server.silent = true;
	const now = Date.now, asleep = 8 * 3600 * 1000;
	Date.now = () => now() + asleep;
	try {
		bus.stream.look(); // as its timer, or a page that is shown, does
		assert.equal(bus.state, "reconnecting");
		await until(() => bus.state === "live" && server.queries.length === 2);
	} finally {
		Date.now = now;
	}
});

scene("publish sends JSON that no foreign page can send, and rejects with the server's reason", async ({ server, open }) => {
	const bus = open();
	await bus.publish("a/b", { x: [1, null] });
	await bus.publish("a/c");
	assert.deepEqual(server.posted.map(({ topic, value }) => [topic, value]), [["a/b", { x: [1, null] }], ["a/c", null]]);
	const { headers } = server.posted[0];
	assert.deepEqual([headers["x-libbus"], headers["content-type"]], ["1", "application/json"]);
	server.refusal = { status: 403, code: "NOT_ALLOWED", message: "pages may not publish to 'a/b'" };
	await assert.rejects(bus.publish("a/b", 1), { message: "pages may not publish to 'a/b'" });
	await server.close();
	await assert.rejects(bus.publish("a/b", 1), /no answer from .*: the server is down/);
	await server.listen(server.port);
});

scene("a closed bus gets no message and leaves the others alone", async ({ server, open }) => {
	const bus = open(), other = open(), heard = hear(bus, "a"), rest = hear(other, "a");
	await settled(bus, server);
	bus.close();
	bus.on("b", () => {});
	server.publish("a", 1);
	await until(() => rest.values.length === 1);
	assert.deepEqual([heard.values, bus.state, bus.reason], [[], "closed", ""]);
	assert.deepEqual(bus.states, [["live", ""], ["closed", ""]]);
});
