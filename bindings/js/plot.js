/* plot.js: draws the last seconds of some numbers as lines on a canvas.
 *
 *     const plot = livePlot(element, { range: [0, 100], label: (y) => `${y} %`, fill: true });
 *     plot.draw({
 *         now: 60, span: 30, marks: [0, 10, 20, 30],                             // marks: seconds ago, ascending
 *         lines: [{ colour: "--c0", points: [[40, 21], [44, null], [45, 23]] }], // [seconds, number]
 *     });
 *     plot.destroy();
 *
 * The canvas fills the element, which needs a size from CSS. Points ascend in time; null breaks a line. draw() keeps
 * its argument, and redraws it when the size, the theme or the pixel ratio changes. Options, with their defaults:
 *   range   [low, high], or a function of the lowest and the highest visible number (adds a tenth at both ends)
 *   label   returns the text of a tick of the y axis (String)
 *   fill    true: a line without others has a tint below it (false)
 *   text, grid   CSS variables of the element, as a line's colour is ("--soft", "--line") */
(function (root) {
	"use strict";

	const TOP = 8, RIGHT = 16, BOTTOM = 24, LEFT = 56; // CSS pixels around the lines; wide labels widen LEFT
	const TICK_PX = 28; // ticks of the y axis are no closer
	const FONT_PX = 11, LABEL_GAP_PX = 8, LINE_PX = 2;
	const TINT = "12%";
	const withRoom = (low, high) => [low - (high - low) / 10, high + (high - low) / 10];

	/* Multiples of 1, 2 or 5 times a power of ten between low and high, at most steps + 1 of them. */
	function ticks(low, high, steps) {
		const least = (high - low) / Math.max(1, steps);
		const power = 10 ** Math.floor(Math.log10(least));
		const step = power * [1, 2, 5, 10].find((times) => times * power >= least * (1 - 1e-9));
		const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
		// 3 * 0.1 is not 0.3; its first twelve digits are.
		return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
	}

	/* Returns the pieces of a line between its gaps. */
	function pieces(points) {
		const all = [[]];
		for (const point of points)
			Number.isFinite(point[1]) ? all.at(-1).push(point) : all.push([]);
		return all.filter((piece) => piece.length > 0);
	}

	/* Returns [low, high] of the y axis; null if it depends on numbers and none is visible. */
	function bounds(range, points, from, until) {
		if (Array.isArray(range))
			return range;
		const inSight = ([time, number]) => time >= from && time <= until && Number.isFinite(number);
		const numbers = points.filter(inSight).map((point) => point[1]).sort((a, b) => a - b);
		if (numbers.length === 0)
			return null;
		const [low, high] = range(numbers[0], numbers.at(-1));
		const room = low < high ? 0 : Math.abs(low) / 10 || 1;
		return [low - room, high + room];
	}

	function livePlot(element, { range = withRoom, label = String, fill = false, text = "--soft", grid = "--line" } = {}) {
		const canvas = element.appendChild(document.createElement("canvas"));
		const ctx = canvas.getContext("2d"), style = getComputedStyle(canvas);
		// No transition: colour() reads the colour right after setting it.
		Object.assign(canvas.style, { display: "block", width: "100%", height: "100%", transition: "none" });
		let shown = null, scale, left = LEFT, right, bottom;

		/* A canvas does not resolve CSS variables; the style of its element does. */
		function colour(name) {
			canvas.style.color = `var(${name})`;
			return style.color;
		}

		function redraw() {
			const box = canvas.getBoundingClientRect();
			scale = devicePixelRatio;
			// Browsers round the edges of a box to device pixels: a canvas with the same number of pixels is sharp.
			canvas.width = Math.round(box.right * scale) - Math.round(box.left * scale);
			canvas.height = Math.round(box.bottom * scale) - Math.round(box.top * scale);
			right = box.width - RIGHT;
			bottom = box.height - BOTTOM;
			if (shown === null || right <= left || bottom <= TOP)
				return;
			const { now, span, marks, lines } = shown;
			const known = bounds(range, lines.flatMap((line) => line.points), now - span, now);
			const [low, high] = known ?? [0, 1];
			const x = (time) => right - ((now - time) / span) * (right - left);
			const y = (number) => bottom - ((number - low) / (high - low)) * (bottom - TOP);
			ctx.scale(scale, scale);
			ctx.font = `${FONT_PX}px ${style.fontFamily}`;
			drawLevels(known ? ticks(low, high, (bottom - TOP) / TICK_PX) : [], y);
			drawMarks(marks.filter((ago) => ago <= span), (ago) => x(now - ago));
			ctx.rect(left, TOP - LINE_PX, right - left + LINE_PX, bottom - TOP + 2 * LINE_PX); // keeps a line at an edge whole
			ctx.clip();
			lines.forEach((line) => drawLine(line, x, y));
		}

		function drawLevels(levels, y) {
			const names = levels.map((number) => label(number)), wide = names.map((name) => ctx.measureText(name).width);
			const thin = Math.max(1, Math.round(scale)) / scale; // the grid is sharp: on whole pixels of the screen
			left = Math.max(left, ...wide.map((width) => width + LABEL_GAP_PX));
			ctx.fillStyle = colour(grid);
			levels.forEach((number) => ctx.fillRect(left, Math.round(y(number) * scale) / scale, right - left, thin));
			Object.assign(ctx, { fillStyle: colour(text), textAlign: "right", textBaseline: "middle" });
			levels.forEach((number, i) => ctx.fillText(names[i], left - LABEL_GAP_PX, y(number)));
		}

		/* Draws the labels from now backwards; omits a label that would touch the last one. */
		function drawMarks(marks, x) {
			let free = right + RIGHT;
			ctx.textAlign = "center";
			for (const ago of marks) {
				const name = ago ? `${ago} s` : "now", half = ctx.measureText(name).width / 2;
				if (x(ago) + half > free)
					continue;
				ctx.fillText(name, x(ago), bottom + BOTTOM - FONT_PX / 2 - 2);
				free = x(ago) - half - LABEL_GAP_PX;
			}
		}

		function drawLine({ colour: name, points }, x, y) {
			Object.assign(ctx, { strokeStyle: colour(name), lineWidth: LINE_PX, lineJoin: "round", lineCap: "round" });
			ctx.fillStyle = `color-mix(in srgb, ${style.color} ${TINT}, transparent)`;
			for (const piece of pieces(points)) {
				const first = x(piece[0][0]), last = x(piece.at(-1)[0]), path = new Path2D();
				piece.forEach(([time, number]) => path.lineTo(x(time), y(number)));
				path.lineTo(last + 0.01, y(piece.at(-1)[1])); // a point between two gaps is a dot
				ctx.stroke(path);
				path.lineTo(last, bottom);
				path.lineTo(first, bottom);
				if (fill && shown.lines.length === 1)
					ctx.fill(path);
			}
		}

		const sizes = new ResizeObserver(redraw), themes = new MutationObserver(redraw), ended = new AbortController();
		sizes.observe(canvas);
		themes.observe(document.documentElement, { attributes: true });
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, ended);
		addEventListener("resize", redraw, ended); // fires on a change of the pixel ratio too

		return {
			draw: (data) => { shown = data; redraw(); },
			destroy: () => { sizes.disconnect(); themes.disconnect(); ended.abort(); canvas.remove(); },
		};
	}

	if (typeof module === "object")
		module.exports = { livePlot, ticks, pieces, bounds };
	else
		root.livePlot = livePlot;
})(globalThis);
