/* Tiles and plots of host/<hostname>/<group>/…, made as their topics appear. */
"use strict";

const WINDOW_S = [30, 120]; // a new plot shows a shorter span, so that it is never mostly empty
const GATHER_MS = 60; // readings of one second arrive together: all of them get one point in time
const GAP_S = 3; // a longer pause breaks the line

/* --- formats of numbers ---------------------------------------------------------------------- */

const digits = (x) => (Math.abs(x) < 9.95 ? 1 : 0);
const percent = (x) => [x.toFixed(digits(x)), "%"];
const celsius = (x) => [x.toFixed(1), "°C"];
const plain = (x) => [x.toFixed(2), ""];

function scaled(step, names) {
	return (x) => {
		let i = 0;
		while (x >= 999.5 && i < names.length - 1) {
			x /= step;
			i++;
		}
		return [i === 0 ? x.toFixed(0) : x.toFixed(x < 99.95 ? 1 : 0), names[i]];
	};
}
const rate = scaled(1000, ["B/s", "kB/s", "MB/s", "GB/s"]);
const size = scaled(1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
const text = (show, x) => show(x).join(" ").trim();

/* --- groups of topics ---------------------------------------------------------------------------
 * line: the name of a topic's line in the plot, or null; tile: big number, note, and bars (0 to 1).
 * line gets the rest of a topic after host/<hostname>/<group>/, tile a Map from these rests to the newest numbers. */

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const ending = (values, end) => [...values].filter(([key]) => key.endsWith(end)).map(([, x]) => x);

function flow(title, down, up, names) {
	const ends = { [down]: names[0], [up]: names[1] };
	return {
		title, show: rate, floor: 1000, quiet: true,
		line: (key) => {
			const [device, what] = key.split("/");
			return ends[what] ? `${device} ${ends[what]}` : null;
		},
		tile: (values) => {
			const came = sum(ending(values, down)), went = sum(ending(values, up));
			return { number: came + went, note: `${names[0]} ${text(rate, came)}\n${names[1]} ${text(rate, went)}` };
		},
	};
}

/* thermal_zone0/cpu-thermal → cpu-thermal; hwmon1/nvme/Composite → nvme Composite */
const sensor = (key) => key.split("/").slice(1).join(" ") || key;

function gauge(title, show) {
	return {
		title, show, around: true,
		line: sensor,
		tile: (values) => {
			const [key, number] = values.entries().next().value;
			return { number, note: sensor(key) };
		},
	};
}

const GROUPS = {
	cpu: {
		title: "CPU", show: percent, range: [0, 100],
		line: (key) => (/^\d+$/.test(key) ? `core ${key}` : null),
		tile: (values) => {
			const cores = [...values].filter(([key]) => /^\d+$/.test(key)).sort(([a], [b]) => a - b).map(([, x]) => x);
			if (cores.length === 0)
				return null;
			return {
				number: sum(cores) / cores.length,
				bars: cores.map((x) => x / 100),
				note: cores.length === 1 ? "one core" : `${cores.length} cores, busiest ${text(percent, Math.max(...cores))}`,
			};
		},
	},
	memory: {
		title: "Memory", show: percent, range: [0, 100],
		line: (key) => (key === "used_percent" ? "used" : null),
		tile: (values) => {
			const used = values.get("used_percent"), total = values.get("total_bytes");
			if (used === undefined)
				return null;
			return { number: used, bars: [used / 100], note: total ? `${text(size, (used / 100) * total)} of ${text(size, total)}` : "used" };
		},
	},
	load: {
		title: "Load", show: plain, floor: 1,
		line: (key) => key,
		tile: (values) => ({
			number: values.get("1min"),
			note: ["5min", "15min"].filter((key) => values.has(key)).map((key) => `${key} ${text(plain, values.get(key))}`).join("\n"),
		}),
	},
	temperature: {
		title: "Temperature", show: celsius, around: true,
		line: sensor,
		tile: (values) => {
			const [key, hottest] = [...values].reduce((a, b) => (b[1] > a[1] ? b : a));
			return { number: hottest, bars: [hottest / 100], high: 0.8, note: sensor(key) };
		},
	},
	net: flow("Network", "rx_bytes_per_s", "tx_bytes_per_s", ["in", "out"]),
	disk: flow("Disk", "read_bytes_per_s", "write_bytes_per_s", ["read", "write"]),
	humidity: gauge("Humidity", percent),
	pressure: gauge("Pressure", (x) => [x.toFixed(1), "hPa"]),
	voltage: gauge("Voltage", (x) => [x.toFixed(2), "V"]),
	current: gauge("Current", (x) => [x.toFixed(2), "A"]),
};

/* --- small helpers ---------------------------------------------------------------------------- */

const $ = (selector, inside = document) => inside.querySelector(selector);

function made(template, into, order = 0) {
	const element = $(`#${template}`).content.firstElementChild.cloneNode(true);
	element.dataset.order = order;
	into.insertBefore(element, [...into.children].find((other) => other.dataset.order > order) ?? null);
	return element;
}

/* --- tile ---------------------------------------------------------------------------------------- */

class Tile {
	constructor(host, group, order) {
		this.group = group;
		this.element = made("tile", $(".tiles", host.element), order);
		this.element.dataset.group = group.key;
		$("h3", this.element).textContent = group.title;
	}

	show({ number, note = "", bars = [], high = 0.9 }) {
		const [digits, unit] = this.group.show(number);
		$(".value", this.element).textContent = digits;
		$(".unit", this.element).textContent = unit;
		$(".note", this.element).textContent = $(".note", this.element).title = note;
		const box = $(".bars", this.element);
		while (box.children.length < bars.length)
			box.append(document.createElement("i"));
		bars.forEach((share, i) => {
			box.children[i].style.setProperty("--share", Math.max(0, Math.min(1, share)));
			box.children[i].toggleAttribute("data-high", share > high);
		});
	}
}

/* --- plot ---------------------------------------------------------------------------------------- */

class Plot {
	constructor(host, group, order) {
		this.group = group;
		this.lines = []; // {key, name, item, colour, points}
		this.element = made("plot", $(".plots", host.element), order);
		$("h3", this.element).textContent = group.title;
		const { show, range, around, floor = 0 } = group;
		this.plot = livePlot($(".canvas", this.element), {
			label: (y) => text(tidy(show), y),
			range: range ?? ((low, high) => (around
				? [Math.floor(low - 2), Math.ceil(high + 2)]
				: [0, Math.max(floor, high * 1.15)])),
			fill: true,
		});
	}

	/* The newest number of each line. fresh: the keys that changed since the last call.
	 * In a quiet group a device has no line until it is active: most disks of a machine never are. */
	add(time, values, fresh) {
		this.began ??= time;
		for (const [key, number] of values) {
			const name = this.group.line(key);
			if (name !== null && (number !== 0 || !this.group.quiet) && !this.lines.some((line) => line.key === key))
				this.begin(key, name);
		}
		for (const { key, item, points } of this.lines) {
			$("b", item).textContent = text(this.group.show, values.get(key));
			$("b", item).dataset.value = values.get(key);
			if (!fresh.has(key))
				continue;
			if (time - points.at(-1)?.[0] > GAP_S)
				points.push([time, null]);
			points.push([time, values.get(key)]);
			while (points[1]?.[0] < time - WINDOW_S[1])
				points.shift();
		}
	}

	begin(key, name) {
		const item = document.createElement("li");
		item.append(name, " ", document.createElement("b"));
		$("b", item).dataset.topic = `${this.group.topic}/${key}`;
		this.lines.push({ key, name, item, points: [] });
		this.lines.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
		this.lines.forEach((line, i) => {
			line.colour = `--c${i % 8}`;
			line.item.style.setProperty("--dot", `var(${line.colour})`);
		});
		$(".legend", this.element).replaceChildren(...this.lines.map((line) => line.item));
	}

	draw(now) {
		const span = Math.min(Math.max(now - this.began, WINDOW_S[0]), WINDOW_S[1]);
		const marks = span < 60 ? [0, 10, 20, 30, 40, 50] : [0, 30, 60, 90, 120];
		this.plot.draw({ now, span, marks, lines: this.lines });
	}
}

/* An axis shows 40 % and 2 MB/s, not 40.0 % and 2.0 MB/s. */
const tidy = (show) => (x) => {
	const [digits, unit] = show(x);
	return [String(Number(digits)), unit];
};

/* --- host ---------------------------------------------------------------------------------------- */

class Host {
	constructor(name) {
		this.element = made("host", $("main"));
		$("h2", this.element).textContent = name;
		this.name = name;
		this.groups = new Map();
	}

	take(group, key, number, kept) {
		const order = Object.keys(GROUPS).indexOf(group);
		if (order < 0)
			return;
		if (!this.groups.has(group))
			this.groups.set(group, {
				...GROUPS[group], key: group, topic: `host/${this.name}/${group}`, order, values: new Map(), fresh: new Set(),
			});
		const g = this.groups.get(group);
		g.values.set(key, number);
		if (!kept)
			g.fresh.add(key);
		g.gathering ??= setTimeout(() => this.update(g), GATHER_MS);
	}

	update(g) {
		g.gathering = null;
		const shown = g.tile(g.values);
		if (shown && shown.number !== undefined) {
			g.tileView ??= new Tile(this, g, g.order);
			g.tileView.show(shown);
		}
		// A kept value may be old: a tile shows it, a plot does not.
		if (g.fresh.size === 0 || ![...g.values.keys()].some((key) => g.line(key) !== null))
			return;
		g.plotView ??= new Plot(this, g, g.order);
		g.plotView.add(performance.now() / 1000, g.values, g.fresh);
		g.fresh.clear();
	}

	draw(now) {
		for (const g of this.groups.values())
			g.plotView?.draw(now);
	}
}

/* --- the page ------------------------------------------------------------------------------------ */

const hosts = new Map();
let last = null;
let lost = 0;

const bus = libbus(undefined, { staleAfter: 3500 });

bus.on("host/#", (value, msg) => {
	const [, name, group, ...rest] = msg.topic.split("/");
	lost += msg.lost;
	if (typeof value !== "number")
		return;
	if (!hosts.has(name))
		hosts.set(name, new Host(name));
	hosts.get(name).take(group, rest.join("/"), value, msg.kept);
	if (!msg.kept)
		last = performance.now();
});

bus.onstate = (state, reason) => {
	$("#badge").dataset.state = document.documentElement.dataset.state = state;
	$("#badge").textContent = reason ? `${state}: ${reason}` : state;
};

setInterval(() => {
	const now = performance.now();
	hosts.forEach((host) => host.draw(now / 1000));
	const age = last === null ? 0 : Math.round((now - last) / 1000);
	const notes = [lost > 0 && `${lost} readings lost`, age > 2 && `last reading ${age} s ago`];
	$("#age").textContent = notes.filter(Boolean).join(", ");
}, 500);

/* --- light or dark --------------------------------------------------------------------------------- */

const root = document.documentElement;
root.dataset.theme = localStorage.getItem("theme") || "";
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
$("#theme").onclick = () => {
	root.dataset.theme = dark() ? "light" : "dark";
	localStorage.setItem("theme", root.dataset.theme);
};
