/* libbus.js: the bus in a page.
 *
 *     const bus = libbus();                                   // or libbus("/prefix")
 *     const off = bus.on("sensors/+/temp", (value, msg) => …); // msg: {topic, value, kept, lost}
 *     bus.onstate = (state, reason) => …;
 *
 * States: connecting → live; stale: connected, but no message for options.staleAfter milliseconds (0: never
 * stale); reconnecting: the connection is lost, the next attempt is on its way; closed: by close(), or since
 * the server says no for good.
 *
 * The reason is one sentence on why the page is not live: the server's own where it gave one, such as "this worker
 * has one thread and cannot hold a live page: start gunicorn with --threads 8"; otherwise what went wrong on the way,
 * such as "no answer from http://host". It is empty while live, and after a loss until the server is asked.
 * onstate runs again when only the reason changes. bus.state and bus.reason hold both; the console shows each reason
 * once, also for a page without onstate.
 *
 * Values arrive as JSON has them. Beyond that, integers that a number cannot hold arrive as their digits in a string, and
 * arrays of numbers as typed arrays with a property shape: Float64Array for float64, BigInt64Array for int64; complex numbers
 * as two floats, halves as Float32Array. Times, decimals, UUIDs and dates are strings.
 *
 * All filters of a page share one connection, for a browser opens only six to a server. When they change it
 * is opened anew: kept values come again (msg.kept), others published in that moment are missed. */
(function (root) {
	"use strict";

	const FIRST_RETRY_MS = 500;
	const LAST_RETRY_MS = 10000;
	const PATIENCE_MS = 5000;
	const OPENING_MS = 10000; // a stream that waits in the server's or the browser's queue gets no error
	const SILENT_BEATS = 2.5; // so many heartbeats without a sign of life mean that nobody is there

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

	const ARRAYS = new Map(Object.entries({
		b1: Uint8Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, i8: BigInt64Array,
		u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, u8: BigUint64Array,
		f4: Float32Array, f8: Float64Array, c8: Float32Array, c16: Float64Array,
	}));
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
				: new (ARRAYS.get(value.$numbers))(buffer);
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

	class Bus {
		constructor(prefix, options) {
			this.url = new URL(prefix + "/events", root.document ? document.baseURI : location.href).href;
			this.server = new URL(this.url).origin;
			this.staleAfter = options.staleAfter || 0;
			this.state = "connecting";
			this.reason = "";
			this.onstate = null;
			this.warned = new Set(); // reasons that the console shows
			this.listeners = new Map(); // filter → Set of functions
			this.source = null;
			this.retries = 0;
			this.timers = {};
			addEventListener("online", () => this.state === "reconnecting" && this.connect());
		}

		/* Calls fn(value, msg) for every message that matches; returns a function that ends it. */
		on(filter, fn) {
			if (!this.listeners.has(filter)) {
				this.listeners.set(filter, new Set());
				this.reopen();
			}
			this.listeners.get(filter).add(fn);
			return () => {
				const fns = this.listeners.get(filter);
				if (fns && fns.delete(fn) && fns.size === 0) {
					this.listeners.delete(filter);
					this.reopen();
				}
			};
		}

		close(reason = "") {
			this.drop();
			this.enter("closed", reason);
		}

		/* --- the connection ------------------------------------------------------------------- */

		reopen() {
			// Later: on() comes in groups, and one connection is enough for the group.
			if (this.state !== "closed")
				this.after("open", 0, () => this.connect());
		}

		/* guess: the reason if events do not arrive and no other is known. */
		connect(guess = "") {
			this.drop();
			if (this.listeners.size === 0)
				return;
			const source = this.source = new EventSource(this.address());
			const alive = () => {
				if (this.silenceMs)
					this.after("silence", this.silenceMs, () => this.lose(`no sign of life from ${this.server} for ` +
						`${this.silenceMs / 1000} s: the server hangs, or the network is down`));
			};
			this.after("silence", OPENING_MS, () => this.lose(guess || late(this.server, OPENING_MS)));
			source.onopen = () => {
				clearTimeout(this.timers.silence);
				guess = "";
				this.retries = 0;
				this.fresh();
			};
			source.addEventListener("hb", (event) => {
				this.silenceMs = event.data * 1000 * SILENT_BEATS;
				alive();
			});
			source.onmessage = (event) => {
				alive();
				this.fresh();
				this.deliver(parse(event.data));
			};
			// EventSource gives up for good at the first HTTP error, and all pages of a restarted server
			// come back at the same moment: so this client does the waiting itself.
			source.onerror = () => this.lose("", guess);
		}

		lose(reason, guess = "") {
			this.drop();
			this.enter("reconnecting", reason || (this.state === "reconnecting" && this.reason) || guess);
			this.retry();
		}

		retry(atLeastMs = 0) {
			const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.retries++);
			this.after("open", atLeastMs + most * (0.2 + 0.8 * Math.random()), () => this.ask());
		}

		/* EventSource hides what the server said; ask, then try again, wait longer, or give up. */
		async ask() {
			const address = this.address();
			const [answer, reason] = await request(address + "&libbus-ask", this.server);
			if (this.state !== "reconnecting" || address !== this.address())
				return; // closed, or connecting anew for other filters
			const status = answer ? answer.status : 0;
			if (!reason)
				return this.connect(`${this.server} has a place, but no events arrive: a proxy may hold them back`);
			if (status >= 400 && status < 500 && status !== 429)
				return this.close(reason);
			this.enter("reconnecting", reason);
			this.retry(status ? (Number(answer.headers.get("Retry-After")) || 0) * 1000 : 0);
		}

		drop() {
			for (const timer of Object.values(this.timers))
				clearTimeout(timer);
			this.silenceMs = 0;
			if (this.source)
				this.source.close();
			this.source = null;
		}

		address() {
			const asked = [...this.listeners.keys()].map((filter) => "filter=" + encodeURIComponent(filter));
			return this.url + "?" + asked.join("&");
		}

		/* --- messages and states -------------------------------------------------------------- */

		deliver(msg) {
			for (const [filter, fns] of this.listeners)
				if (matches(filter, msg.topic))
					for (const fn of fns)
						guarded(() => fn(msg.value, msg));
		}

		fresh() {
			this.enter("live");
			if (this.staleAfter)
				this.after("stale", this.staleAfter, () =>
					this.enter("stale", `connected, but no message for ${this.staleAfter / 1000} s`));
		}

		enter(state, reason = "") {
			if (state === this.state && reason === this.reason)
				return;
			this.state = state;
			this.reason = reason;
			if (reason && !this.warned.has(reason)) {
				this.warned.add(reason);
				console.warn("libbus: " + reason);
			}
			guarded(() => this.onstate && this.onstate(state, reason));
		}

		after(name, ms, fn) {
			clearTimeout(this.timers[name]);
			this.timers[name] = setTimeout(fn, ms);
		}
	}

	/* The answer, and why no events come from there: empty if they do. */
	async function request(address, server) {
		try {
			const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
			const type = answer.headers.get("Content-Type") || "nothing";
			const events = answer.ok && type.startsWith("text/event-stream");
			if (events)
				answer.body?.cancel().catch(() => {});
			return [answer, events ? "" : await why(answer, type)];
		} catch (error) {
			return [null, error.name === "TimeoutError" ? late(server, PATIENCE_MS)
				: `no answer from ${server}: the server is down, or the network`];
		}
	}

	function late(server, ms) {
		return `no answer from ${server} within ${ms / 1000} s: its threads are busy, ` +
			"or this browser has six other pages open there";
	}

	async function why(answer, type) {
		const body = await answer.json().catch(() => null);
		if (body && body.error && body.error.message)
			return body.error.message;
		const { status, statusText } = answer, place = answer.url.replace(/\?.*/, "");
		if (answer.ok)
			return `${place} answers with ${type.replace(/;.*/, "")} instead of events: log in again, ` +
				"or check the proxy before the server";
		const said = `${place} answers ${status} ${statusText}`.trim();
		if (status === 404)
			return said + ": give libbus() the url_prefix of the server's Bus, /bus unless the app chose another";
		return status === 401 || status === 403 ? said + ": log in again, then reload this page" : said;
	}

	/* A page's mistake is the page's: it shows in the console, and the next listener still runs. */
	function guarded(fn) {
		try {
			fn();
		} catch (error) {
			setTimeout(() => { throw error; });
		}
	}

	/* Where this script came from is where its events are; a copy of it elsewhere takes the default. */
	const script = root.document && root.document.currentScript;
	const [, home] = (script && script.src.match(/^(.*)\/static\/libbus\.js/)) || [null, "/bus"];

	const libbus = (prefix = home, options = {}) => new Bus(prefix.replace(/\/$/, ""), options);

	if (typeof module === "object")
		module.exports = { libbus, matches, parse };
	else
		root.libbus = libbus;
})(globalThis);
