"use strict";
const test = require("node:test");
const assert = require("node:assert");
const { ticks, pieces, bounds } = require("../plot.js");

for (const [low, high, steps, wanted] of [
	[0, 100, 5, [0, 20, 40, 60, 80, 100]],
	[0, 100, 4, [0, 50, 100]],
	[0, 1, 10, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]],
	[-3, 3, 3, [-2, 0, 2]],
	[0, 1150, 5, [0, 500, 1000]],
	[1.3e9, 4.1e9, 4, [2e9, 3e9, 4e9]],
	[0.0021, 0.0038, 2, [0.003]],
	[43, 51, 0.4, [50]],
])
	test(`from ${low} to ${high} in at most ${steps} steps, ticks are ${wanted}`, () =>
		assert.deepStrictEqual(ticks(low, high, steps), wanted));

test("ticks are round, inside the range and no closer than the steps allow, at every magnitude", () => {
	for (let power = -9; power <= 15; power++) {
		for (let steps = 1; steps <= 12; steps++) {
			const low = -1.37 * 10 ** power, high = 8.61 * 10 ** power;
			const found = ticks(low, high, steps);
			assert.ok(found.length >= 1 && found.length <= steps + 1, `${found}`);
			assert.ok(found.every((tick) => tick >= low && tick <= high), `${found}`);
			assert.ok(found.every((tick) => tick.toPrecision(3) == tick), `${found}`);
			assert.ok(found.includes(0), `${found}`);
		}
	}
});

test("null, NaN and a missing number break a line", () => {
	const line = [[1, 10], [2, 20], [3, null], [4, 40], [5, NaN], [6, undefined], [7, 70], [8, 0]];
	assert.deepStrictEqual(pieces(line), [[[1, 10], [2, 20]], [[4, 40]], [[7, 70], [8, 0]]]);
});

test("a line of gaps and a line without points have no pieces", () => {
	assert.deepStrictEqual(pieces([]), []);
	assert.deepStrictEqual(pieces([[1, null], [2, null]]), []);
});

const same = (low, high) => [low, high];

test("a fixed range needs no numbers", () => assert.deepStrictEqual(bounds([0, 100], [], 0, 30), [0, 100]));

test("a computed range covers the visible numbers and ignores gaps", () => {
	const points = [[9, 900], [10, 9], [15, null], [20, 10], [30, -2], [31, -900]];
	assert.deepStrictEqual(bounds(same, points, 10, 30), [-2, 10]);
});

test("a computed range without a visible number is null", () => {
	assert.strictEqual(bounds(same, [[1, 5], [20, null]], 10, 30), null);
	assert.strictEqual(bounds(same, [], 10, 30), null);
});

test("a range is never empty: a steady number has room on both sides", () => {
	assert.deepStrictEqual(bounds(same, [[10, 0], [11, 0]], 10, 30), [-1, 1]);
	assert.deepStrictEqual(bounds(same, [[10, -50]], 10, 30), [-55, -45]);
	const [low, high] = bounds(same, [[10, 1e17]], 10, 30);
	assert.ok(low < 1e17 && high > 1e17);
});
