"use strict";
const test = require("node:test");
const assert = require("node:assert");
const { parse } = require(process.env.LIBBUS_JS || "../libbus.js");

const base64 = (array) => Buffer.from(array.buffer).toString("base64");
const json = (array, kind, shape) =>
	JSON.stringify({ value: { $bytes: base64(array), $numbers: kind, $shape: shape } });

test("integers that a number cannot hold arrive as digits", () => {
	assert.deepEqual(
		parse('{"a":9007199254740991,"b":[9007199254740993,-9223372036854775808,18446744073709551615]}'),
		{ a: 9007199254740991, b: ["9007199254740993", "-9223372036854775808", "18446744073709551615"] });
});

test("digits in texts, in keys and after a point are unchanged", () => {
	const value = { "12345678901234567890": "\\\"12345678901234567890,", f: 0.12345678901234568, g: 1.2345678901234567e+25 };
	assert.deepEqual(parse(JSON.stringify(value)), value);
	assert.deepEqual(parse("[9007199254740994.0,1e+22]"), [9007199254740994, 1e22]);
});

test("a long text with many escapes is read", () => {
	const text = '\\"1234567890123456'.repeat(200000);
	assert.equal(parse(JSON.stringify([text, 1]))[0], text);
});

for (const [kind, array] of Object.entries({
	b1: Uint8Array.of(0, 1), i1: Int8Array.of(-1, 2), i2: Int16Array.of(-3, 4), i4: Int32Array.of(-5, 6),
	i8: BigInt64Array.of(-7n, 2n ** 62n), u1: Uint8Array.of(255, 0), u2: Uint16Array.of(65535, 1),
	u4: Uint32Array.of(2 ** 32 - 1, 1), u8: BigUint64Array.of(2n ** 64n - 1n, 1n),
	f4: Float32Array.of(1.5, -0), f8: Float64Array.of(Math.PI, NaN), c8: Float32Array.of(1, 2), c16: Float64Array.of(3, 4),
}))
	test(`an array of ${kind} arrives as a typed array with its shape`, () => {
		const { value } = parse(json(array, kind, [1, 2]));
		assert.equal(value.constructor, array.constructor);
		assert.deepEqual([...value], [...array]);
		assert.deepEqual(value.shape, [1, 2]);
	});

test("half-precision floats arrive as numbers", () => {
	const bits = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7c00, 0xfc00, 0x7e00, 0x8000, 0x7bff);
	const { value } = parse(json(bits, "f2", [8]));
	assert.ok(value instanceof Float32Array);
	assert.deepEqual([...value], [1, -2, 2 ** -24, Infinity, -Infinity, NaN, -0, 65504]);
});

test("an object of a program that looks like an array is unchanged", () => {
	for (const value of [{ $numbers: "f8" }, { $numbers: 1, $bytes: "", $shape: [] }, { $numbers: "x9", $bytes: "", $shape: [] },
		{ $numbers: "f8", $bytes: "AAAA", $shape: [] }, { $numbers: "f8", $bytes: "?", $shape: [] }, { $numbers: "constructor", $bytes: "", $shape: [] }])
		assert.deepEqual(parse(JSON.stringify({ value })), { value });
});
