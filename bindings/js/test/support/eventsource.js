"use strict";
/* EventSource for Node, where the built-in one needs a flag: the parts that libbus.js uses, without reconnecting. */
const http = require("node:http");

class EventSource extends EventTarget {
	constructor(url) {
		super();
		this.lastEventId = "";
		this.request = http.get(url, { agent: false }, (response) => {
			if (response.statusCode !== 200)
				return this.fail();
			this.onopen?.();
			let text = "";
			response.setEncoding("utf8").on("data", (chunk) => {
				const blocks = (text + chunk).split("\n\n");
				text = blocks.pop();
				for (const block of blocks)
					this.dispatch(block);
			}).on("close", () => this.fail()).on("error", () => {});
		}).on("error", () => this.fail());
	}

	dispatch(block) {
		let name = "message", data = null;
		for (const line of block.split("\n")) {
			const [, field, value] = line.match(/^([^:]*): ?([^]*)$/);
			if (field === "event")
				name = value;
			else if (field === "data")
				data = value;
			else if (field === "id")
				this.lastEventId = value;
		}
		if (data !== null && !this.closed)
			this.dispatchEvent(Object.assign(new Event(name), { data, lastEventId: this.lastEventId }));
	}

	fail() {
		if (!this.closed)
			this.onerror?.();
	}

	close() {
		this.closed = true;
		this.request.destroy();
	}
}

module.exports = { EventSource };
