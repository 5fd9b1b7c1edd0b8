/* libbus.js: the bus in a page.
 *
 *     const bus = libbus();                                   // or libbus("/prefix")
 *     const off = bus.on("sensors/+/temp", (value, msg) => …); // msg: {topic, value, kept, lost}
 *     bus.onstate = (state, reason) => …;
 *
 * States: connecting → live; stale: connected, but no message for options.staleAfter milliseconds (0: never
 * stale); reconnecting: the connection is lost, the next attempt is on its way; closed: by close(), or since
 * the server says no for good (reason tells why).
 *
 * All filters of a page share one connection, for a browser opens only six to a server. When they change it
 * is opened anew: kept values come again (msg.kept), others published in that moment are missed. */
(function (root) {
	"use strict";

	const FIRST_RETRY_MS = 500;
	const LAST_RETRY_MS = 10000;
	const PATIENCE_MS = 5000;
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

	class Bus {
		constructor(prefix, options) {
			this.url = prefix + "/events";
			this.staleAfter = options.staleAfter || 0;
			this.state = "connecting";
			this.onstate = null;
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

		connect() {
			this.drop();
			if (this.listeners.size === 0)
				return;
			const source = this.source = new EventSource(this.address());
			const alive = () => {
				if (this.silenceMs)
					this.after("silence", this.silenceMs, () => this.lose());
			};
			source.onopen = () => {
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
				this.deliver(JSON.parse(event.data));
			};
			// EventSource gives up for good at the first HTTP error, and all pages of a restarted server
			// come back at the same moment: so this client does the waiting itself.
			source.onerror = () => this.lose();
		}

		lose() {
			this.drop();
			this.enter("reconnecting");
			this.retry();
		}

		retry(atLeastMs = 0) {
			const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.retries++);
			this.after("open", atLeastMs + most * (0.2 + 0.8 * Math.random()), () => this.ask());
		}

		/* EventSource hides what the server said; ask, then try again, wait longer, or give up. */
		async ask() {
			const address = this.address();
			try {
				const answer = await request(address, "HEAD");
				if (this.state !== "reconnecting")
					return;
				if (answer.ok)
					this.connect();
				else if (answer.status >= 400 && answer.status < 500 && answer.status !== 429)
					this.close(await why(address));
				else
					this.retry((answer.headers.get("Retry-After") || 0) * 1000);
			} catch {
				if (this.state === "reconnecting")
					this.retry();
			}
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
				this.after("stale", this.staleAfter, () => this.enter("stale"));
		}

		enter(state, reason = "") {
			if (state === this.state)
				return;
			this.state = state;
			guarded(() => this.onstate && this.onstate(state, reason));
		}

		after(name, ms, fn) {
			clearTimeout(this.timers[name]);
			this.timers[name] = setTimeout(fn, ms);
		}
	}

	function request(address, method) {
		return fetch(address, { method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
	}

	async function why(address) {
		const answer = await request(address, "GET");
		const body = await answer.json().catch(() => ({}));
		return body.error ? body.error.message : answer.status + " " + answer.statusText;
	}

	/* A page's mistake is the page's: it shows in the console, and the next listener still runs. */
	function guarded(fn) {
		try {
			fn();
		} catch (error) {
			setTimeout(() => { throw error; });
		}
	}

	/* Where this script came from is where its events are. */
	const script = root.document && root.document.currentScript;
	const home = script ? script.src.replace(/\/static\/libbus\.js.*$/, "") : "/bus";

	const libbus = (prefix = home, options = {}) => new Bus(prefix.replace(/\/$/, ""), options);

	if (typeof module === "object")
		module.exports = { libbus, matches };
	else
		root.libbus = libbus;
})(globalThis);
