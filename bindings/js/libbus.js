/* libbus.js: the bus in a page. It is a script, the code of the module libbus.mjs, and the worker that all tabs share.
 *
 *     const bus = libbus();                                    // or libbus("/prefix")
 *     const off = bus.on("sensors/+/temp", (value, msg) => …); // msg: {topic, value, kept, lost}
 *     bus.onstate = (state, reason) => …;
 *
 * libbus.d.ts has the whole interface; docs/guide/browser.md explains it. */
(function (root) {
	"use strict";

	const KNOBS = {
		retryMs: 500, maxRetryMs: 10000,
		answerMs: 5000,
		openMs: 10000, // a stream that waits in the server's or the browser's queue reports no error
	};
	const SILENT_BEATS = 2.5; // missed heartbeats until the connection counts as dead
	const LOOK_MS = 5000; // delay until the clock is checked after a sleep
	const LINGER_MS = 1000; // filters without a listener stay this long: a new listener often follows
	const PING_MS = 30000;
	const END_MS = 2000; // for a server that ends without a retry time
	const WINDOW = 256000, QUEUE = 1024000; // messages of a tab: in transit, and waiting behind those

	const NEW = 0, BEGUN = 1, SETTLED = 2; // a listener: no event yet; it can resume; it has all kept values

	/* MQTT's rule: + matches one level, # the parent and all levels below; in the first level neither matches a topic that begins with $. */
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

	/* Converts the bits of a float16 to a number. */
	function half(bits) {
		const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
		if (exponent === 31)
			return fraction ? NaN : sign * Infinity;
		return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
	}

	/* Makes a typed array of an array of numbers in JSON; returns any other value as it is. */
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

	/* JSON.parse() with large integers and arrays of numbers. */
	function parse(text) {
		if (/\d{16}/.test(text))
			text = text.replace(TOKENS, (token) =>
				/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token);
		return JSON.parse(text, text.includes('"$numbers"') ? revived : undefined);
	}

	/* --- the connection ----------------------------------------------------------------------- */

	/* Whether event a is not after event b, in the same epoch. A k after the position is ignored. */
	function within(a, b) {
		const [cutA, cutB] = [a, b].map((id) => id.lastIndexOf("-") + 1);
		return a.slice(0, cutA) === b.slice(0, cutB) && parseInt(a.slice(cutA), 16) <= parseInt(b.slice(cutB), 16);
	}

	const filtersOf = (listeners) => new Set(listeners.map(({ filter }) => filter));

	/* One connection to the server, for its clients: tabs of the worker, or Bus objects of a tab without a worker. A client has
	 * send(kind, ...) and listeners by number, each with
	 *   at      the id up to which it has all; empty: none yet
	 *   asked   the connection that was opened for it, whose kept values it gets; 0: none so far
	 *   phase   NEW, BEGUN or SETTLED */
	class Stream {
		constructor(url, knobs) {
			Object.assign(this, knobs);
			this.url = url;
			this.server = new URL(url).origin;
			this.clients = new Set();
			this.state = "connecting";
			this.reason = "";
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
			// Messages of a filter that another listener has arrive already: only its kept values must be requested.
			const same = this.live && !past && this.listeners().find((each) => each.phase && each.filter === filter);
			client.listeners.set(n, { n, filter, past, at: same?.at || "", asked: 0, phase: same ? BEGUN : NEW });
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

		/* Delayed: calls of on() arrive in groups, and one connection serves the group. A connection that brings kept values
		 * stays until it has brought them. */
		reopen(ms) {
			const all = this.listeners();
			if (all.length === 0)
				return this.connect();
			const changed = all.some(({ phase }) => phase < SETTLED) || filtersOf(all).size !== this.count;
			if (changed && !this.settling && (ms === 0 || this.source))
				this.after("open", ms, () => this.settling || this.connect());
		}

		/* guess: the reason to report if no events arrive and no other reason is known. */
		connect(guess = "") {
			this.drop();
			const all = this.listeners(), serial = ++this.serial;
			if (all.length === 0)
				return this.enter("connecting");

			// Resumes from the earliest position; the other listeners skip events they have. A connection has history of one
			// kind only; listeners without history begin first.
			const begun = all.filter(({ at }) => at);
			const since = begun.reduce((first, { at }) => !first || within(at, first) ? at : first, "");
			const fresh = all.filter(({ at, phase }) => !at || phase < SETTLED);
			const past = this.withoutIds || !fresh.every((each) => each.past) ? "" : fresh[0]?.past || "";
			const wanted = fresh.filter((each) => this.withoutIds || each.past === past);
			const query = new URLSearchParams(past), old = filtersOf(begun), news = filtersOf(wanted);
			const filters = new Set([...old, ...news]);
			for (const filter of filters)
				query.append("filter", filter);
			this.count = filters.size;
			// k: a filter is both old and new. Then all kept values arrive again, and the history of the new listeners.
			let again = "";
			for (const filter of news) {
				if (old.has(filter))
					again = "k";
				if (past || (since && !old.has(filter)))
					query.append("new", filter);
			}
			if (since)
				query.append("after", since.replace(/k$/, "") + again);
			for (const each of wanted) {
				each.asked = serial;
				if (!each.at)
					each.phase = NEW;
			}
			let marks = wanted.length > 0 && (since || past); // the server says where each listener begins, and when all have begun
			this.address = this.url + "?" + query;

			const source = this.source = new EventSource(this.address);
			const mine = () => this.listeners().filter(({ asked }) => asked === serial);
			const hear = (name, fn) => source.addEventListener(name, ({ data, lastEventId: id }) => {
				this.heard = Date.now();
				fn(data, id);
				// At the same position an id without k means that all kept values have arrived. The start of a history lies before it.
				for (const each of this.listeners())
					if (each.phase && id && name !== "begin" && (!within(id, each.at) || within(each.at, id)))
						each.at = id;
			});
			const begin = (filter) => {
				for (const each of mine())
					if (!filter || each.filter === filter)
						each.phase ||= each.past ? SETTLED : BEGUN;
			};
			const settle = () => {
				this.settling = false;
				for (const each of mine())
					each.phase &&= SETTLED;
				this.reopen(0);
			};
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
					marks || begin();
				}
				this.look();
				this.enter("live");
				if (this.settling && !marks && !/k$/.test(id))
					settle();
			});
			hear("begin", (data) => begin(JSON.parse(data).filter));
			hear("live", settle);
			hear("message", (data, id) => {
				const { topic, kept } = JSON.parse(data);
				this.tell("message", ({ filter, asked, at, phase }) =>
					phase && (kept ? asked === serial : !within(id, at)) && matches(filter, topic), data);
			});
			hear("gap", (data) => this.tell("lost", null, JSON.parse(data).lost));
			hear("reset", (data, id) => {
				// All listeners begin again with kept values; the next connection requests history.
				for (const each of this.listeners())
					each.asked &&= each.phase || !each.past ? serial : 0;
				marks = false;
				begin();
				this.tell("reset", null, JSON.parse(data).reason);
				/k$/.test(id) || settle();
			});
			hear("denied", (data) => {
				const { filter, topic } = data = JSON.parse(data);
				this.tell("denied", (each) => (filter ? each.filter === filter : matches(each.filter, topic)), data);
			});
			hear("end", (data) => {
				this.drop();
				this.enter("reconnecting");
				this.after("open", Number(data) || END_MS, () => this.connect());
			});
			// EventSource gives up for good at the first HTTP error, and all pages of a restarted server
			// come back at the same moment: so this client does the waiting itself.
			source.onerror = () => this.lose(this.guess);
		}

		/* Sends to every client, or only to those with a wanted listener. */
		tell(kind, wanted, data) {
			for (const client of this.clients) {
				const to = wanted ? [...client.listeners.values()].filter(wanted) : [];
				if (!wanted || to.length > 0)
					client.send(kind, data, to.map(({ n }) => n));
			}
		}

		/* Uses the wall clock: timers stop while a laptop sleeps. */
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

		/* EventSource hides the server's answer: request it, then retry, wait longer, or give up. */
		async ask() {
			const { serial, server } = this;
			const { answer, reason, filter } = await request(this.address + "&libbus-ask", server, this.answerMs);
			if (this.state !== "reconnecting" || serial !== this.serial)
				return; // no listener is left, or a new connection for other filters is under way
			const status = answer ? answer.status : 0;
			if (!reason)
				return this.connect(held(server));
			if (status >= 400 && status < 500 && status !== 429)
				return this.refuse(reason, filter);
			this.enter("reconnecting", reason);
			this.retry(status ? (Number(answer.headers.get("Retry-After")) || 0) * 1000 : 0);
		}

		/* Closes the clients with this filter, or all if none has it; the others continue. */
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

	/* Returns the answer, and the reason why it is not an event stream; empty if it is. */
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

	const streams = new Map(); // the stream of this tab or of this worker
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
			// Tabs with the same name share a worker; the number is the version of their protocol.
			this.name = JSON.stringify([url, knobs, 2]);
			this.script = worker ||
				(script.startsWith(root.origin + "/") && /\/libbus\.js(\?|$)/.test(script) ? script : this.base + "/static/libbus.js");
			this.state = "connecting";
			this.reason = "";
			this.retries = this.missing = this.taken = 0;
			this.onstate = this.onlost = this.onreset = this.ondenied = null;
			this.warned = new Set(); // reasons already in the console
			this.fns = new Map();
			this.timers = {};
			this.share();
			if (root.document) {
				document.addEventListener("visibilitychange", () => document.hidden || this.ping());
				// A hidden page holds no connection; it may return by the Back button.
				addEventListener("pagehide", () => this.tell("leave"));
				addEventListener("pageshow", ({ persisted }) => persisted && this.state !== "closed" && this.again(
					"the browser had suspended this page"));
			}
		}

		/* Calls fn(value, msg) for every matching message; returns a function that ends the listener. */
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
				this.warn(reason + ": this tab uses a separate connection");
			this.stream = streamOf(this.name);
			const began = this.state !== "connecting";
			this.again();
			if (began)
				this.reset(reason);
		}

		/* Adds the listeners to a new stream. */
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

		/* Waits twice: a page that was busy itself finds the answer after the first wait. */
		ping() {
			this.tell("check");
			if (!this.port)
				return;
			const wait = (fn) => this.after("pong", this.answerMs, fn);
			wait(() => wait(() => this.alone(`the shared worker ${this.script} does not answer`)));
			this.after("ping", PING_MS, () => this.ping());
		}

		pong() {}

		/* --- messages of the stream ------------------------------------------------------------- */

		message(text, to) {
			const msg = parse(text);
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

		/* The worker sends at most WINDOW messages ahead. */
		acknowledge(text) {
			this.taken += weight(["message", text]);
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

	/* An exception of a listener shows in the console, and the next listener still runs. */
	function guarded(fn) {
		try {
			fn();
		} catch (error) {
			setTimeout(() => { throw error; });
		}
	}

	/* --- the worker --------------------------------------------------------------------------- */

	const weight = ([kind, text]) => kind === "message" ? text.length + 1000 : 0;

	/* A tab of this worker. A slow or frozen tab loses its oldest messages, which are counted, and delays no other tab. Everything
	 * sent to a tab stays in order, except heartbeats. */
	class Tab {
		constructor(port, stream) {
			this.port = port;
			this.queue = [];
			this.away = this.held = 0;
			port.onmessage = ({ data: [kind, ...rest] }) => kind === "ack" ? this.ack(...rest) : stream[kind](this, ...rest);
			port.onclose = () => stream.leave(this);
			stream.join(this);
		}

		send(...told) {
			if (told[0] === "pong")
				return this.port.postMessage(told);
			const { queue } = this;
			queue.push(told);
			this.held += weight(told);
			while (this.held > QUEUE) {
				const i = queue.findIndex(([kind]) => kind === "message");
				if (i === queue.length - 1)
					break;
				this.held -= weight(queue[i]);
				if (queue[i - 1]?.[0] === "lost") {
					queue[i - 1][1]++;
					queue.splice(i, 1);
				} else
					queue[i] = ["lost", 1];
			}
			this.ack(0);
		}

		ack(taken) {
			this.away -= taken;
			while (this.queue.length > 0 && this.away < WINDOW) {
				const told = this.queue.shift();
				this.held -= weight(told);
				this.away += weight(told);
				this.port.postMessage(told);
			}
		}
	}

	if ("onconnect" in root)
		root.onconnect = ({ ports: [port] }) => new Tab(port, streamOf(root.name));

	/* The events are on the server of this script; a copy of the script elsewhere uses the default prefix. */
	const libbus = (prefix, options) => {
		const [, home] = libbus.src.match(/^(.*)\/static\/libbus\.js/) || [null, "/bus"];
		return new Bus((prefix ?? home).replace(/\/$/, ""), options, libbus.src);
	};
	libbus.src = root.document?.currentScript?.src || "";

	root.libbus = libbus;
	if (typeof module === "object")
		module.exports = { libbus, matches, parse };
})(globalThis);
