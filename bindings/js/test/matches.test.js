"use strict";
const test = require("node:test");
const assert = require("node:assert");
const { matches } = require(process.env.LIBBUS_JS || "../libbus.js");

const yes = [
	["a/b", "a/b"], ["a/+", "a/b"], ["+/+", "/b"], ["+", "a"], ["a/+/c", "a//c"],
	["#", "a/b/c"], ["a/#", "a/b/c"], ["a/#", "a"], ["a/+/#", "a/b"], ["$bus/#", "$bus/drops"], ["$bus/+", "$bus/drops"],
];
const no = [
	["a/b", "a"], ["a", "a/b"], ["a/+", "a"], ["a/+", "a/b/c"], ["+", "/a"], ["a/#", "ab"], ["a/+/#", "a"],
	["#", "$bus/drops"], ["+/drops", "$bus/drops"], ["A", "a"],
];

for (const [filter, topic] of yes)
	test(`${filter} matches ${topic}`, () => assert.ok(matches(filter, topic)));
for (const [filter, topic] of no)
	test(`${filter} does not match ${topic}`, () => assert.ok(!matches(filter, topic)));
