/* libbus.js: the bus in a page, as a script, behind libbus.mjs as a module, and as the worker that all tabs share.
 *
 *     const bus = libbus();                                    // or libbus("/prefix")
 *     const off = bus.on("sensors/+/temp", (value, msg) => …); // msg: {topic, value, kept, lost}
 *     bus.onstate = (state, reason) => …;
 *
 * libbus.d.ts has the whole interface, docs/guide/browser.md explains it. */
(function (root) {
	"use strict";

	const KNOBS = {
		retryMs: 500, maxRetryMs: 10000,
		answerMs: 5000,
		openMs: 10000, // a stream that waits in the server's or the browser's queue gets no error
		settleMs: 200, // kept values and history come right after the first event, each within this time
	};
	const SILENT_BEATS = 2.5; // heartbeats without a sign of life until the connection counts as dead
	const LOOK_MS = 5000; // how soon after a sleep the clock is looked at
	const LINGER_MS = 1000; // filters that nobody wants any more stay this long: a new listener often follows
	const PING_MS = 30000;
	const END_MS = 2000;
	const WINDOW = 256000, QUEUE = 1024000; // of a tab: what is on its way, and what waits behind that

	const NEW = 0, BEGUN = 1, SETTLED = 2; // a listener: no id yet; can resume; has all that was kept for it

	/* MQTT's rule: + is one level, # the parent and all below, and neither is for topics that begin with $. */
	function matches(filter, topic) {
		const want = filter.split("/"), have = topic.split("/");
		if (have[0].startsWith("$") && (want[0] === "+" || want[0] === "#"))
			return false;
		for (let i = 0; i < want.length; i++) {
			if (want[i] === "#")
				return true;
			if (i === have.length || (want[i] !== "+" && want[i] !== have[i]))
				return false;
		}
		return want.length === have.length;
	}

	/* --- values ------------------------------------------------------------------------------- */

	const ARRAYS = {
		__proto__: null, b1: Uint8Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, i8: BigInt64Array,
		u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, u8: BigUint64Array,
		f4: Float32Array, f8: Float64Array, c8: Float32Array, c16: Float64Array,
	};
	const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

	/* The bits of a float16 as a number. */
	function half(bits) {
		const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
		if (exponent === 31)
			return fraction ? NaN : sign * Infinity;
		return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
	}

	/* An array of numbers out of its JSON; any other value as it is. */
	function revived(_, value) {
		if (!value || typeof value.$numbers !== "string" || typeof value.$bytes !== "string" || !Array.isArray(value.$shape))
			return value;
		try {
			const { buffer } = Uint8Array.from(atob(value.$bytes), (c) => c.charCodeAt(0));
			const array = value.$numbers === "f2" ? Float32Array.from(new Uint16Array(buffer), half)
				: new ARRAYS[value.$numbers](buffer);
			return Object.assign(array, { shape: value.$shape });
		} catch {
			return value; // it only looks like one
		}
	}

	/* JSON.parse(), for what JSON lacks. */
	function parse(text) {
		if (/\d{16}/.test(text))
			text = text.replace(TOKENS, (token) =>
				/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token);
		return JSON.parse(text, text.includes('"$numbers"') ? revived : undefined);
	}

	/* --- the connection ----------------------------------------------------------------------- */

	/* Whether the event with id a is b or before it, in the same epoch. A k behind the position does not count. */
	function within(a, b) {
		const [cutA, cutB] = [a, b].map((id) => id.lastIndexOf("-") + 1);
		return a.slice(0, cutA) === b.slice(0, cutB) && parseInt(a.slice(cutA), 16) <= parseInt(b.slice(cutB), 16);
	}

	/* One connection to the server, for clients: tabs of the worker, or Bus objects of a tab without one. A client has
	 * send(kind, ...) and listeners by number, each with
	 *   at      the id up to which it has all
	 *   asked   the connection whose kept values are for it; 0: none so far
	 *   phase   NEW, BEGUN or SETTLED */
	class Stream {
		constructor(url, knobs) {
			Object.assign(this, knobs);
			this.url = url;
			this.server = new URL(url).origin;
			this.clients = new Set();
			this.state = "connecting";
			this.reason = this.lastId = "";
			this.serial = this.retries = 0;
			this.timers = {};
			root.addEventListener?.("online", () => this.state === "reconnecting" && this.connect());
		}

		join(client) {
			client.listeners = new Map();
			this.clients.add(client);
			client.send("entered", this.state, this.reason, this.retries);
		}

		on(client, n, filter, past) {
			client.listeners.set(n, { n, filter, past, at: "", asked: 0, phase: NEW });
			this.reopen(0);
		}

		off(client, n) {
			client.listeners.delete(n);
			this.reopen(LINGER_MS);
		}

		leave(client) {
			this.clients.delete(client);
			this.reopen(LINGER_MS);
		}

		check(client) {
			client.send("pong");
			this.look();
		}

		listeners() {
			return [...this.clients].flatMap((client) => [...client.listeners.values()]);
		}

		/* Later: on() comes in groups, and one connection is enough for the group. A connection that brings kept values
		 * stays until it has brought them. */
		reopen(ms) {
			const all = this.listeners();
			if (all.length === 0)
				return this.connect();
			this.changed = all.some(({ phase }) => phase < SETTLED) || new Set(all.map(({ filter }) => filter)).size !== this.count;
			if (this.changed && !this.settling && (ms === 0 || this.source))
				this.after("open", ms, () => this.settling || this.connect());
		}

		/* guess: the reason if events do not arrive and no other is known. */
		connect(guess = "") {
			this.drop();
			const all = this.listeners(), serial = ++this.serial;
			const resumed = this.lastId ? all.filter(({ phase }) => phase > NEW) : [];
			if (resumed.length === 0)
				this.lastId = "";
			if (all.length === 0)
				return this.enter("connecting");

			// History is for a new page, and of one kind: a connection brings it to those that want it alone, and the next one
			// resumes for all.
			const fresh = all.filter(({ phase }) => !this.lastId || phase < SETTLED);
			const past = this.withoutIds || !fresh.every((each) => each.past) ? "" : fresh[0]?.past || "";
			const begun = fresh.filter((each) => this.withoutIds || each.past === past);
			const since = past ? "" : this.lastId, filters = (those) => new Set(those.map(({ filter }) => filter));
			const query = new URLSearchParams(past), old = filters(since ? resumed : []), wanted = filters(begun);
			for (const filter of new Set([...old, ...wanted]))
				query.append("filter", filter);
			if (since) {
				// A filter with listeners of both kinds resumes; the k asks for all that is kept.
				let again = "";
				for (const filter of wanted)
					if (old.has(filter))
						again = "k";
					else
						query.append("new", filter);
				query.append("after", since.replace(/k$/, "") + again);
				for (const each of resumed)
					if (each.phase === SETTLED && !within(since, each.at))
						each.at = since;
			}
			const aside = past && this.lastId;
			for (const each of fresh)
				each.asked = begun.includes(each) ? serial : each.phase && each.asked;
			this.count = aside ? 0 : query.getAll("filter").length;
			this.changed = false;
			this.address = this.url + "?" + query;

			const source = this.source = new EventSource(this.address);
			const settle = () => this.after("settle", this.settleMs, () => this.settle());
			const hear = (name, fn) => source.addEventListener(name, ({ data, lastEventId: id }) => {
				this.heard = Date.now();
				fn(data, id);
				// Not back to history. At the same position an id without its k says that all kept values came.
				if (id && !aside && (!within(id, this.lastId) || within(this.lastId, id)))
					this.lastId = id;
			});
			this.heard = Date.now();
			this.limit = this.openMs;
			this.guess = guess;
			this.look();
			source.onopen = () => {
				this.guess = held(this.server);
			};
			hear("hb", (data, id) => {
				this.limit = data * 1000 * SILENT_BEATS || this.limit;
				if (!this.live) {
					this.live = this.settling = true;
					this.guess = "";
					this.retries = 0;
					this.withoutIds = !id && !past;
					for (const each of this.listeners())
						if (each.asked === serial && id)
							each.phase ||= BEGUN;
					settle();
				}
				this.look();
				this.enter("live");
			});
			hear("message", (data, id) => {
				const { topic, kept } = JSON.parse(data);
				if (this.settling && (kept || within(id, since)))
					settle();
				this.tell("message", ({ filter, asked, at }) =>
					asked && !(aside && asked !== serial) && (kept ? asked === serial : !within(id, at)) && matches(filter, topic), data, kept ? "" : id);
			});
			hear("gap", (data) => this.tell("lost", null, JSON.parse(data).lost));
			hear("reset", (data) => {
				for (const each of this.listeners())
					each.asked &&= serial; // the kept values that follow are for all
				this.tell("reset", null, JSON.parse(data).reason);
			});
			hear("denied", (data) => {
				const { filter, topic } = data = JSON.parse(data);
				this.tell("denied", (each) => (filter ? each.filter === filter : matches(each.filter, topic)), data);
			});
			hear("end", (data) => {
				this.drop();
				this.enter("reconnecting");
				this.after("open", Number(data) || END_MS * (1 + 2 * Math.random()), () => this.connect());
			});
			// EventSource gives up for good at the first HTTP error, and all pages of a restarted server
			// come back at the same moment: so this client does the waiting itself.
			source.onerror = () => this.lose(this.guess);
		}

		settle() {
			this.settling = false;
			const all = this.listeners();
			for (const each of all)
				if (each.asked === this.serial)
					each.phase = SETTLED;
			this.reopen(0);
		}

		/* Sends to every client, or to those with a listener that is wanted. */
		tell(kind, wanted, data, id) {
			for (const client of this.clients) {
				const to = wanted ? [...client.listeners.values()].filter(wanted) : [];
				if (id)
					for (const each of to)
						each.at = id;
				if (!wanted || to.length > 0)
					client.send(kind, data, to.map(({ n }) => n));
			}
		}

		/* By the wall clock: timers stand still while a laptop sleeps. */
		look() {
			if (!this.source)
				return;
			const left = this.limit - Math.abs(Date.now() - this.heard);
			if (left > 0)
				this.after("look", Math.min(left, LOOK_MS), () => this.look());
			else
				this.lose(this.live ? `no sign of life from ${this.server} for ${this.limit / 1000} s: ` +
					"the server hangs, or the network is down" : this.guess || late(this.server, this.limit));
		}

		lose(reason) {
			this.drop();
			this.enter("reconnecting", reason || (this.state === "reconnecting" ? this.reason : ""));
			this.retry();
		}

		retry(atLeastMs = 0) {
			const most = Math.min(this.maxRetryMs, this.retryMs * 2 ** this.retries++);
			this.after("open", atLeastMs + most * (0.2 + 0.8 * Math.random()), () => this.ask());
		}

		/* EventSource hides what the server said; ask, then try again, wait longer, or give up. */
		async ask() {
			const { serial, server } = this;
			const { answer, reason, filter } = await request(this.address + "&libbus-ask", server, this.answerMs);
			if (this.state !== "reconnecting" || serial !== this.serial)
				return; // nobody listens any more, or connecting anew for other filters
			const status = answer ? answer.status : 0;
			if (!reason)
				return this.connect(held(server));
			if (status >= 400 && status < 500 && status !== 429)
				return this.refuse(reason, filter);
			this.enter("reconnecting", reason);
			this.retry(status ? (Number(answer.headers.get("Retry-After")) || 0) * 1000 : 0);
		}

		/* Closes the clients that want the filter, or all if none does; the others go on. */
		refuse(reason, filter) {
			const wants = (client) => [...client.listeners.values()].some((each) => each.filter === filter);
			const all = [...this.clients], those = all.filter(wants);
			for (const client of those.length > 0 ? those : all) {
				this.clients.delete(client);
				client.send("closed", reason);
			}
			this.connect();
		}

		drop() {
			for (const timer of Object.values(this.timers))
				clearTimeout(timer);
			this.live = this.settling = false;
			this.source?.close();
			this.source = null;
		}

		enter(state, reason = "") {
			if (state === this.state && reason === this.reason && state === "live")
				return;
			this.state = state;
			this.reason = reason;
			for (const client of this.clients)
				client.send("entered", state, reason, this.retries);
		}
	}

	/* The answer, and why it is not the one that was wanted: empty if it is. */
	async function request(address, server, answerMs, options) {
		let answer = null;
		try {
			answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(answerMs), ...options });
			const type = answer.headers.get("Content-Type") || "nothing";
			const wanted = answer.ok && (options || type.startsWith("text/event-stream"));
			if (!wanted)
				return { answer, ...await why(answer, type) };
			answer.body?.cancel().catch(() => {});
			return { answer };
		} catch (error) {
			return { reason: error.name === "TimeoutError" ? late(server, answerMs)
				: `no answer from ${server}: the server is down, or the network` };
		}
	}

	function late(server, ms) {
		return `no answer from ${server} within ${ms / 1000} s: its threads are busy, ` +
			"or this browser has six other pages open there";
	}

	function held(server) {
		return `${server} has a place, but no events arrive: a proxy may hold them back`;
	}

	async function why(answer, type) {
		const { error } = await answer.json().catch(() => 0) || {};
		if (error?.message)
			return { reason: error.message, filter: error.filter };
		const { status, statusText } = answer, place = answer.url.replace(/\?.*/, "");
		const said = `${place} answers ${status} ${statusText}`.trim();
		return { reason: answer.ok ? `${place} answers with ${type.replace(/;.*/, "")} instead of events: log in again, ` +
				"or check the proxy before the server"
			: status === 404 ? said + ": give libbus() the url_prefix of the server's Bus, /bus unless the app chose another"
			: status === 401 || status === 403 ? said + ": log in again, then reload this page"
			: said };
	}

	/* --- the page ----------------------------------------------------------------------------- */

	const streams = new Map(); // of this tab, or the one of this worker
	let count = 0;

	function streamOf(name) {
		if (!streams.has(name))
			streams.set(name, new Stream(...JSON.parse(name)));
		return streams.get(name);
	}

	class Bus {
		constructor(prefix, options, script) {
			const { staleAfter, worker, ...knobs } = { ...KNOBS, ...options };
			Object.assign(this, { staleAfter, worker, answerMs: knobs.answerMs });
			const url = new URL(prefix + "/events", root.document?.baseURI).href;
			this.base = url.slice(0, -"/events".length);
			// Tabs with the same name share a worker; the number is that of their protocol.
			this.name = JSON.stringify([url, knobs, 1]);
			this.script = worker ||
				(script.startsWith(root.origin + "/") && /\/libbus\.js(\?|$)/.test(script) ? script : this.base + "/static/libbus.js");
			this.state = "connecting";
			this.reason = "";
			this.retries = this.missing = this.taken = 0;
			this.onstate = this.onlost = this.onreset = this.ondenied = null;
			this.warned = new Set(); // reasons that the console shows
			this.fns = new Map();
			this.timers = {};
			this.share();
			if (root.document) {
				document.addEventListener("visibilitychange", () => document.hidden || this.ping());
				// A page that goes away, perhaps to come back by the Back button, holds no connection.
				addEventListener("pagehide", () => this.tell("leave"));
				addEventListener("pageshow", ({ persisted }) => persisted && this.state !== "closed" && this.again(
					"the browser had put this page aside"));
			}
		}

		/* Calls fn(value, msg) for every message that matches; returns a function that ends it. */
		on(filter, fn, { last, since } = {}) {
			const n = ++count, past = last ? "last=" + last : since ? "since=" + since : "";
			this.fns.set(n, { fn, told: [n, filter, past] });
			this.tell("on", n, filter, past);
			return () => {
				if (this.fns.delete(n))
					this.tell("off", n);
			};
		}

		/* Publishes; rejects with the server's reason. */
		async publish(topic, value = null) {
			const token = root.document?.querySelector("meta[name=csrf-token]")?.content;
			const { reason } = await request(this.base + "/publish", new URL(this.base).origin, this.answerMs, {
				method: "POST",
				headers: { "Content-Type": "application/json", "X-Libbus": "1", ...token && { "X-CSRFToken": token } },
				body: JSON.stringify({ topic, value }),
			});
			if (reason)
				throw new Error(reason);
		}

		close() {
			this.tell("leave");
			this.closed("");
		}

		/* --- the way to the stream: a worker's port, or a stream of this tab ------------------- */

		share() {
			let reason = "";
			if (this.worker !== false && root.SharedWorker)
				try {
					const worker = new SharedWorker(this.script, this.name), { port } = worker;
					worker.onerror = () => this.alone(`the shared worker ${this.script} does not start`);
					port.onmessage = ({ data: [kind, ...rest] }) => {
						clearTimeout(this.timers.pong);
						if (this.port === port)
							this[kind](...rest);
					};
					this.port = port;
					this.shared = true;
					return this.ping();
				} catch (error) {
					reason = `the shared worker ${this.script} does not start (${error.message})`;
				}
			this.alone(reason);
		}

		alone(reason) {
			if (this.stream || this.state === "closed")
				return;
			this.tell("leave");
			this.port = null;
			this.shared = false;
			clearTimeout(this.timers.ping);
			if (reason)
				this.warn(reason + ": this tab has a connection of its own");
			this.stream = streamOf(this.name);
			const began = this.state !== "connecting";
			this.again();
			if (began)
				this.reset(reason);
		}

		/* Brings the listeners to a stream that does not know them. */
		again(reason) {
			if (this.stream)
				this.stream.join(this);
			else if (reason)
				this.share();
			for (const { told } of this.fns.values())
				this.tell("on", ...told);
			if (reason)
				this.reset(reason);
		}

		tell(kind, ...rest) {
			if (this.stream)
				this.stream[kind](this, ...rest);
			else
				this.port?.postMessage([kind, ...rest]);
		}

		/* Twice the time: a page that was busy itself finds the answer after the first. */
		ping() {
			this.tell("check");
			if (!this.port)
				return;
			const wait = (fn) => this.after("pong", this.answerMs, fn);
			wait(() => wait(() => this.alone(`the shared worker ${this.script} does not answer`)));
			this.after("ping", PING_MS, () => this.ping());
		}

		pong() {}

		/* --- what the stream says --------------------------------------------------------------- */

		message(text, to, lost = 0) {
			const msg = parse(text);
			lost += msg.lost || 0;
			if (lost)
				this.lost(lost);
			msg.lost = this.missing;
			this.missing = 0;
			for (const n of to)
				guarded(() => this.fns.get(n)?.fn(msg.value, msg));
			this.fresh();
			if (this.port)
				this.acknowledge(text);
		}

		lost(n) {
			this.missing += n;
			guarded(() => this.onlost?.(n));
		}

		reset(reason) {
			this.warn("events were missed: " + reason);
			guarded(() => this.onreset?.(reason));
		}

		denied(what) {
			this.warn(what.message);
			guarded(() => this.ondenied?.(what));
		}

		closed(reason) {
			this.port?.close();
			this.port = null;
			for (const timer of Object.values(this.timers))
				clearTimeout(timer);
			this.enter("closed", reason);
		}

		entered(state, reason, retries) {
			this.retries = retries;
			if (state === "live")
				return this.fresh();
			clearTimeout(this.timers.stale);
			this.enter(state, reason);
		}

		fresh() {
			this.enter("live", "");
			if (this.staleAfter)
				this.after("stale", this.staleAfter, () =>
					this.enter("stale", `connected, but no message for ${this.staleAfter / 1000} s`));
		}

		enter(state, reason) {
			if (state === this.state && reason === this.reason)
				return;
			this.state = state;
			this.reason = reason;
			this.warn(reason);
			guarded(() => this.onstate?.(state, reason));
		}

		warn(reason) {
			if (reason && !this.warned.has(reason)) {
				this.warned.add(reason);
				console.warn("libbus: " + reason);
			}
		}

		send(kind, ...rest) {
			this[kind](...rest);
		}

		/* The worker sends no more than WINDOW ahead. */
		acknowledge(text) {
			this.taken += weight(text);
			if (this.taken > WINDOW / 4) {
				this.tell("ack", this.taken);
				this.taken = 0;
			}
		}
	}

	Bus.prototype.after = Stream.prototype.after = function (name, ms, fn) {
		clearTimeout(this.timers[name]);
		this.timers[name] = setTimeout(fn, ms);
	};

	/* A page's mistake is the page's: it shows in the console, and the next listener still runs. */
	function guarded(fn) {
		try {
			fn();
		} catch (error) {
			setTimeout(() => { throw error; });
		}
	}

	/* --- the worker --------------------------------------------------------------------------- */

	const weight = (text) => text.length + 1000;

	/* A tab of this worker. A slow or frozen tab loses its oldest messages, which it counts, and delays no other tab. */
	class Tab {
		constructor(port, stream) {
			this.port = port;
			this.queue = [];
			this.away = this.held = 0;
			port.onmessage = ({ data: [kind, ...rest] }) => kind === "ack" ? this.ack(...rest) : stream[kind](this, ...rest);
			port.onclose = () => stream.leave(this);
			stream.join(this);
		}

		send(kind, data, to, more) {
			if (kind !== "message")
				return this.port.postMessage([kind, data, to, more]);
			this.queue.push([data, to, 0]);
			this.held += weight(data);
			while (this.held > QUEUE && this.queue.length > 1) {
				const [text, , lost] = this.queue.shift();
				this.held -= weight(text);
				this.queue[0][2] += lost + 1;
			}
			this.ack(0);
		}

		ack(taken) {
			this.away -= taken;
			while (this.queue.length > 0 && this.away < WINDOW) {
				const [text, to, lost] = this.queue.shift();
				this.held -= weight(text);
				this.away += weight(text);
				this.port.postMessage(["message", text, to, lost]);
			}
		}
	}

	if ("onconnect" in root)
		root.onconnect = ({ ports: [port] }) => new Tab(port, streamOf(root.name));

	/* Where this script came from is where its events are; a copy of it elsewhere takes the default. */
	const libbus = (prefix, options) => {
		const [, home] = libbus.src.match(/^(.*)\/static\/libbus\.js/) || [null, "/bus"];
		return new Bus((prefix ?? home).replace(/\/$/, ""), options, libbus.src);
	};
	libbus.src = root.document?.currentScript?.src || "";

	root.libbus = libbus;
	if (typeof module === "object")
		module.exports = { libbus, matches, parse };
})(globalThis);
