"use strict";
/* A server of events under the control of a test: the format of libbus/push.h, and the faults of servers.
 *
 * In a test of Node's: `const server = await start()`. As a program, for tests in a browser: `node server.js FOLDER`; it prints
 * its address, serves the scripts of FOLDER below /bus/static, and takes POST /control {"call": ["publish", "a", 1]}. */
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { matches } = require("../../libbus.js");

const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html" };

class Script {
	constructor(folder) {
		this.folder = folder;
		this.pages = { "/": "<!doctype html><title>page</title><script src=/bus/static/libbus.js></script>" };
		this.epoch = 1;
		this.position = 0;
		this.forgotten = 0; // up to here, ids are too old
		this.log = [];
		this.kept = new Map();
		this.open = new Set();
		this.queries = []; // connections for events
		this.asked = 0;
		this.posted = [];
		this.ids = true;
		this.heartbeat = 15;
		this.refusal = null;
		this.allowed = null; // all filters
		this.missing = []; // of the folder
		this.silent = false;
	}

	async listen(port = 0) {
		this.http = http.createServer((request, response) => this.answer(request, response));
		await new Promise((done) => this.http.listen(port, "127.0.0.1", done));
		this.port = this.http.address().port;
		this.url = `http://127.0.0.1:${this.port}`;
		this.beats = setInterval(() => this.beat(), 50);
		return this;
	}

	async close() {
		clearInterval(this.beats);
		this.cut();
		this.http.closeAllConnections();
		await new Promise((done) => this.http.close(done));
	}

	/* --- calls of a test ------------------------------------------------------------------- */

	publish(topic, value, { retain = false } = {}) {
		const event = { position: ++this.position, topic, value };
		this.log.push(event);
		if (retain)
			this.kept.set(topic, value);
		for (const page of this.open)
			if (page.filters.some((filter) => matches(filter, topic)))
				this.send(page, event);
	}

	/* n events at once on a topic, numbered. */
	burst(topic, from, n) {
		for (let i = from; i < from + n; i++)
			this.publish(topic, i);
	}

	/* The same, with a pause in milliseconds between two events. */
	stream(topic, from, n, ms) {
		const timer = setInterval(() => {
			this.publish(topic, from++);
			if (--n === 0)
				clearInterval(timer);
		}, ms);
	}

	gap(lost) {
		this.write(`event: gap\ndata: {"lost":${lost}}\n\n`);
	}

	deny(what) {
		this.write(`event: denied\ndata: ${JSON.stringify(what)}\n\n`);
	}

	end(ms) {
		this.write(`retry: ${ms}\nevent: end\ndata: ${ms}\n\n`);
		for (const page of this.open)
			page.response.end();
		this.open.clear();
	}

	/* Breaks the connections. */
	cut() {
		for (const page of this.open)
			page.response.destroy();
		this.open.clear();
	}

	/* Starts another life: of the last one only kept values remain. */
	reborn() {
		this.epoch++;
		this.position = 0;
		this.log = [];
		this.cut();
	}

	forget() {
		this.forgotten = this.position;
		this.cut();
	}

	set(name, value) {
		this[name] = value;
	}

	state() {
		const { asked, posted, queries, open } = this;
		return { asked, posted, queries, open: open.size };
	}

	/* --- HTTP ------------------------------------------------------------------------------ */

	async answer(request, response) {
		const { pathname, searchParams } = new URL(request.url, "http://x");
		const body = [];
		for await (const chunk of request)
			body.push(chunk);
		const said = Buffer.concat(body).toString();
		const json = (status, value, headers) => {
			response.writeHead(status, { "Content-Type": "application/json", ...headers });
			response.end(JSON.stringify(value));
		};
		if (pathname === "/control") {
			const { call: [name, ...rest] } = JSON.parse(said);
			return json(200, await this[name](...rest) ?? null);
		}
		if (pathname === "/bus/publish") {
			this.posted.push({ headers: request.headers, ...JSON.parse(said) });
			if (this.refusal)
				return this.refuse(json);
			return json(200, {});
		}
		if (pathname === "/bus/events")
			return this.events(request, response, searchParams, json);
		if (this.pages[pathname]) {
			response.setHeader("Content-Type", "text/html");
			return response.end(this.pages[pathname]);
		}
		const name = path.basename(pathname), type = TYPES[path.extname(name)];
		if (pathname !== `/bus/static/${name}` || this.missing.includes(name) || !fs.existsSync(path.join(this.folder, name)))
			return json(404, {});
		response.setHeader("Content-Type", type);
		response.end(fs.readFileSync(path.join(this.folder, name)));
	}

	refuse(json) {
		const { status, retryAfter, ...error } = this.refusal;
		json(status, { error }, retryAfter ? { "Retry-After": retryAfter } : {});
	}

	events(request, response, query, json) {
		if (this.refusal) {
			this.asked++;
			return this.refuse(json);
		}
		const page = { response, filters: query.getAll("filter"), news: query.getAll("new") };
		const bad = this.allowed && page.filters.find((filter) => !this.allowed.includes(filter));
		if (bad) {
			this.asked++;
			return json(403, { error: { code: "NOT_ALLOWED", message: `pages may not listen to '${bad}'`, filter: bad } });
		}
		response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
		if (query.has("libbus-ask")) {
			this.asked++;
			return response.end();
		}
		this.queries.push(query.toString());
		this.open.add(page);
		response.on("close", () => this.open.delete(page));
		this.begin(page, query, request.headers["last-event-id"] || query.get("after"));
	}

	begin(page, query, after) {
		const [epoch, position] = (after || "").split("-");
		const resumes = after && epoch === this.epoch.toString(16) && parseInt(position, 16) >= this.forgotten;
		const isReset = after && !resumes;
		let last = Number(query.get("last") || 0), news = new Set(resumes || last ? page.news : []);
		if (isReset && news.size)
			[last, news] = [0, new Set()];
		const again = after?.endsWith("k"), seen = resumes ? parseInt(position, 16) : this.position;
		const before = (filters) => {
			const past = last ? this.log.filter(({ topic }) => filters.some((filter) => matches(filter, topic))).slice(-last) : [];
			return past.length ? past[0].position - 1 : this.position;
		};
		const olds = page.filters.filter((filter) => !news.has(filter)), start = resumes ? seen : before(olds), begun = new Set();
		const wishes = page.filters.map((filter) => {
			const own = !news.has(filter) ? start : last ? before([filter]) : this.position;
			return { filter, start: own, had: again && last ? Math.min(seen, own) : own };
		});

		const wanted = last ? [] : !resumes || again ? page.filters : [...news];
		const kept = [...this.kept].filter(([topic]) => wanted.some((filter) => matches(filter, topic)));
		const beat = (id) => page.response.write(`${id}event: hb\ndata: ${this.heartbeat}\n\n`);
		const mark = (name, data, id = "") => page.response.write(`${id}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
		const more = !resumes && kept.length > 0; // until the second heartbeat
		page.response.write("retry: 2000\n");
		beat(resumes ? this.line(seen, again ? "k" : "") : last ? "" : this.line(this.position, more ? "k" : ""));
		page.beat = Date.now();
		if (isReset)
			page.response.write('event: reset\ndata: {"reason":"this id is of another life"}\n\n');
		for (const event of this.log) {
			const wants = wishes.filter(({ filter, had }) => event.position > had && matches(filter, event.topic));
			for (const { filter, start } of wants)
				if (news.has(filter) && event.position > start && !begun.has(filter)) {
					begun.add(filter);
					mark("begin", { filter });
				}
			if (wants.length > 0)
				this.send(page, event);
		}
		const adds = news.size || (resumes && again);
		if (adds)
			mark("begin", {});
		for (const [topic, value] of kept)
			page.response.write(`data: ${JSON.stringify({ topic, value, kept: true })}\n\n`);
		if (adds)
			mark("live", {}, this.line(this.position));
		else if (more)
			beat(this.line(this.position));
	}

	line(position, more = "") {
		return this.ids ? `id: ${this.epoch.toString(16)}-${position.toString(16)}${more}\n` : "";
	}

	send(page, { position, topic, value }) {
		page.response.write(`${this.line(position)}data: ${JSON.stringify({ topic, value, kept: false })}\n\n`);
	}

	write(text) {
		for (const page of this.open)
			page.response.write(text);
	}

	beat() {
		for (const page of this.open)
			if (!this.silent && Date.now() - page.beat >= this.heartbeat * 1000) {
				page.beat = Date.now();
				page.response.write(`${this.line(this.position)}event: hb\ndata: ${this.heartbeat}\n\n`);
			}
	}
}

const start = (folder) => new Script(folder).listen();

if (require.main === module)
	start(process.argv[2]).then((server) => {
		console.log(server.url);
		process.stdin.resume().on("end", () => process.exit()); // ends with the test
	});
else
	module.exports = { start };
