"use strict";
/* The shared worker and its tabs, each in a separate global scope, as in a browser. */
const test = require("node:test");
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");
const { start } = require("./support/server.js");
const { EventSource } = require("./support/eventsource.js");

const source = fs.readFileSync(process.env.LIBBUS_JS || path.join(__dirname, "..", "libbus.js"), "utf8");
const PATIENCE_MS = 120000;
const SHORT = { retryMs: 20, maxRetryMs: 100 };

async function until(condition) {
	for (const end = Date.now() + PATIENCE_MS; !condition();) {
		assert.ok(Date.now() < end, `waited for ${condition}`);
		await new Promise((done) => setTimeout(done, 5));
	}
}

function scope(more) {
	const events = new EventTarget();
	const global = {
		setTimeout, clearTimeout, fetch, URL, URLSearchParams, AbortSignal, EventSource, atob,
		addEventListener: events.addEventListener.bind(events), dispatchEvent: events.dispatchEvent.bind(events), ...more,
	};
	global.globalThis = global;
	vm.runInContext(source, vm.createContext(global));
	return global;
}

/* A browser: its workers by name, and tabs that find them. */
class Browser {
	constructor(server) {
		this.server = server;
		this.workers = new Map();
		this.ports = [];
		this.broken = "";
	}

	tab() {
		const browser = this, warnings = [];
		class SharedWorker {
			constructor(url, name) {
				if (browser.broken === "throws")
					throw new Error("not here");
				const { port1, port2 } = new MessageChannel();
				this.port = port1;
				browser.ports.push(port1, port2);
				if (browser.broken === "fails")
					return void setTimeout(() => this.onerror());
				if (browser.broken === "hangs")
					return;
				if (!browser.workers.has(name))
					browser.workers.set(name, scope({ name, onconnect: null }));
				browser.url = url;
				browser.workers.get(name).onconnect({ ports: [port2] });
			}
		}
		const document = Object.assign(new EventTarget(), {
			baseURI: this.server.url + "/", hidden: false, querySelector: () => ({ content: "token" }),
		});
		const tab = scope({ SharedWorker, document, origin: this.server.url, console: { warn: (text) => warnings.push(text) } });
		return Object.assign(tab, { warnings });
	}
}

function scene(name, fn) {
	test(name, async () => {
		const server = await start(), browser = new Browser(server);
		try {
			await fn({ server, browser });
		} finally {
			opened.splice(0).forEach((bus) => bus.close());
			await until(() => server.open.size === 0); // a worker without tabs ends in a browser, not here
			browser.ports.forEach((port) => port.close());
			await server.close();
		}
	});
}

function hear(bus, filter) {
	const heard = { values: [], lost: [] };
	bus.on(filter, (value, msg) => {
		heard.values.push(value);
		heard.lost.push(msg.lost);
	});
	return heard;
}

const opened = [];

function open(tab, options, prefix = "/bus") {
	const bus = tab.libbus(prefix, { ...SHORT, ...options });
	opened.push(bus);
	return bus;
}

const numbers = (from, until) => Array.from({ length: until - from }, (_, i) => from + i);

scene("tabs share a connection, and each gets the messages of its filters", async ({ server, browser }) => {
	const buses = numbers(0, 8).map(() => open(browser.tab()));
	const heard = buses.map((bus, i) => numbers(0, 5).map((j) => hear(bus, `tab/${(i + j) % 8}`)));
	await until(() => buses.every(({ state }) => state === "live") && server.queries.at(-1)?.match(/filter=|new=/g).length === 8);
	await until(() => server.open.size === 1);
	numbers(0, 8).forEach((i) => server.publish(`tab/${i}`, i));
	await until(() => heard.flat().every(({ values }) => values.length === 1));
	heard.forEach((own, i) => own.forEach(({ values }, j) => assert.deepEqual(values, [(i + j) % 8])));
	assert.equal(browser.workers.size, 1);
	assert.equal(browser.url, server.url + "/bus/static/libbus.js");
	assert.ok(buses.every((bus) => bus.shared));
});

scene("the filters of a tab end when it leaves", async ({ server, browser }) => {
	const going = browser.tab(), staying = open(browser.tab()), heard = hear(staying, "a");
	hear(open(going), "b");
	await until(() => staying.state === "live" && /b/.test(server.queries.at(-1)));
	going.dispatchEvent(new Event("pagehide"));
	await until(() => /^filter=a&after/.test(server.queries.at(-1)));
	await until(() => server.open.size === 1);
	server.publish("a", 1);
	await until(() => heard.values.length === 1);
});

scene("the filters of a crashed tab end if the browser tells the worker", async ({ server, browser }) => {
	hear(open(browser.tab()), "b");
	const staying = open(browser.tab()), heard = hear(staying, "a");
	await until(() => staying.state === "live" && /filter=a/.test(server.queries.at(-1)));
	browser.ports[1].onclose();
	await until(() => /^filter=a&after/.test(server.queries.at(-1)));
	await until(() => server.open.size === 1);
	server.publish("a", 1);
	await until(() => heard.values.length === 1);
});

scene("a crashed tab that the browser does not report costs the others no message", async ({ server, browser }) => {
	const crashed = open(browser.tab()), staying = open(browser.tab()), waiting = [];
	hear(crashed, "b");
	const heard = hear(staying, "a");
	await until(() => staying.state === "live" && /filter=a/.test(server.queries.at(-1)) && server.open.size === 1);
	clearTimeout(crashed.timers.ping);
	crashed.port.onmessage = (event) => waiting.push(event);
	for (let i = 0; i < 3000; i += 500) {
		server.burst("b", i, 500);
		server.burst("a", i, 500);
		await until(() => heard.values.length === i + 500);
	}
	assert.deepEqual(heard.values, numbers(0, 3000));
	assert.ok(waiting.length < 300, `${waiting.length}`);
});

scene("a page that returns by the Back button reports that it may have missed messages", async ({ server, browser }) => {
	const tab = browser.tab(), bus = open(tab), heard = hear(bus, "a"), reasons = [];
	bus.onreset = (reason) => reasons.push(reason);
	await until(() => bus.state === "live");
	tab.dispatchEvent(new Event("pagehide"));
	await until(() => server.open.size === 0);
	server.publish("a", 1, { retain: true });
	tab.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
	await until(() => heard.values.length === 1);
	assert.deepEqual(reasons, ["the browser had suspended this page"]);
});

scene("a tab that does not read loses its oldest messages, with a count, and delays no other tab", async ({ server, browser }) => {
	const tab = browser.tab(), slow = open(tab), fast = open(browser.tab());
	const mine = hear(slow, "n"), other = hear(fast, "n"), lost = [];
	slow.onlost = (n) => lost.push(n);
	await until(() => slow.state === "live" && fast.state === "live" && server.open.size === 1);
	await until(() => server.queries.length === 1 || /new=n/.test(server.queries.at(-1)));
	server.publish("n", 0);
	await until(() => mine.values.length === 1 && other.values.length === 1);
	const { onmessage } = slow.port, waiting = [];
	slow.port.onmessage = (event) => waiting.push(event); // what a frozen tab does
	for (let i = 1; i < 5000; i += 500) {
		server.burst("n", i, 500);
		await until(() => other.values.length === i + 500);
	}
	assert.ok(waiting.length < 300, `${waiting.length}`);
	slow.port.onmessage = onmessage;
	waiting.forEach(onmessage);
	await until(() => mine.values.at(-1) === 5000);
	const missing = 5001 - mine.values.length;
	assert.ok(missing > 3000, `${missing}`);
	assert.equal(lost.reduce((sum, n) => sum + n, 0), missing);
	assert.deepEqual(mine.values.filter((value, i) => i > 0 && value !== mine.values[i - 1] + 1 + mine.lost[i]), []);
	assert.deepEqual(other.values, numbers(0, 5001));
});

scene("a slow tab gets losses, resets and states in order", async ({ server, browser }) => {
	const slow = open(browser.tab()), fast = open(browser.tab()), told = [];
	slow.on("n", (value) => told.push(value));
	slow.onlost = (n) => told.push(`lost ${n}`);
	slow.onreset = () => told.push("reset");
	slow.onstate = (state) => told.push(state);
	const other = hear(fast, "n");
	await until(() => slow.state === "live" && fast.state === "live" && server.open.size === 1);
	await until(() => server.queries.length === 1 || /new=n|filter=n.*after/.test(server.queries.at(-1)));
	server.publish("n", 0);
	await until(() => told.includes(0) && other.values.length === 1);
	told.length = 0;
	const { onmessage } = slow.port, waiting = [];
	slow.port.onmessage = (event) => waiting.push(event);
	server.burst("n", 1, 400); // more than is sent ahead, less than is kept
	await until(() => other.values.length === 401);
	server.gap(7);
	server.burst("n", 401, 1);
	await until(() => other.values.length === 402);
	server.reborn();
	await until(() => fast.state !== "live");
	await until(() => fast.state === "live" && server.open.size === 1);
	server.burst("n", 402, 1);
	await until(() => other.values.length === 403);
	slow.port.onmessage = onmessage;
	waiting.forEach(onmessage);
	await until(() => told.at(-1) === 402);
	assert.deepEqual(told, [...numbers(1, 401), "lost 7", 401, "reconnecting", "live", "reset", 402]);
});

for (const [broken, reason] of [["throws", /does not start \(not here\)/], ["fails", /does not start/], ["hangs", /does not answer/]])
	scene(`if a worker ${broken}, each tab uses a separate connection, with the reason`, async ({ server, browser }) => {
		browser.broken = broken;
		const tabs = [browser.tab(), browser.tab()], buses = tabs.map((tab) => open(tab, { answerMs: 100 }));
		const heard = buses.map((bus) => hear(bus, "a"));
		await until(() => buses.every(({ state }) => state === "live") && server.open.size === 2);
		server.publish("a", 1);
		await until(() => heard.every(({ values }) => values.length === 1));
		assert.ok(buses.every(({ shared }) => !shared));
		for (const { warnings } of tabs) {
			assert.equal(warnings.length, 1);
			assert.match(warnings[0], reason);
			assert.match(warnings[0], /this tab uses a separate connection/);
		}
	});

scene("a worker that dies is replaced by a connection of the tab, with a reset", async ({ server, browser }) => {
	const tab = browser.tab(), bus = open(tab, { answerMs: 1000 }), heard = hear(bus, "a"), reasons = [];
	bus.onreset = (reason) => reasons.push(reason);
	await until(() => bus.state === "live");
	browser.ports[1].close();
	browser.ports[1].onclose();
	tab.document.dispatchEvent(new Event("visibilitychange"));
	await until(() => !bus.shared && bus.state === "live");
	assert.match(reasons[0], /does not answer/);
	await until(() => server.queries.length > 1);
	server.publish("a", 1);
	await until(() => heard.values.length === 1);
});

scene("buses with other settings use a separate worker", async ({ server, browser }) => {
	const tab = browser.tab(), buses = [open(tab), open(tab), open(tab, { retryMs: 30 }), open(tab, {}, server.url + "/bus")];
	buses.forEach((bus) => hear(bus, "a"));
	await until(() => server.open.size === 2);
	assert.equal(browser.workers.size, 2);
});

scene("publish sends the page's CSRF token", async ({ server, browser }) => {
	await open(browser.tab()).publish("a", 1);
	assert.equal(server.posted[0].headers["x-csrftoken"], "token");
});
