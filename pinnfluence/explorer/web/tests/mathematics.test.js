// Numbers, geometry and indicators against values that are known by hand.

import assert from "node:assert/strict";
import { test } from "node:test";
import { normalised, robustLimit, scaleMarks } from "../src/colour.js";
import { inside, nearest, nextPoint, outline, pointAreas, zoomed } from "../src/geometry.js";
import { shareOfGroup, termIndicators } from "../src/indicators.js";
import { Interpolation } from "../src/interpolation.js";
import { count, numbersIn, signed, words } from "../src/numbers.js";
import { smoothed } from "../src/raster.js";
import { strongest } from "../src/ranking.js";

/** A unit square of two triangles, and a point in its middle that belongs to four. */
const SQUARE = {
  points: Float32Array.of(0, 0, 1, 0, 1, 1, 0, 1, 0.5, 0.5),
  triangles: Int32Array.of(0, 1, 4, 1, 2, 4, 2, 3, 4, 3, 0, 4),
  n: 5,
};

test("numbers in words have the digits that were asked for, and a real minus sign", () => {
  assert.equal(words(0.0123456, 2), "0.012");
  assert.equal(words(-1.2345e-7, 2), "−1.2 × 10⁻⁷");
  assert.equal(words(0), "0");
  assert.equal(words(NaN), "–");
  assert.equal(signed(2.5e-12), "+2.5 × 10⁻¹²");
  assert.equal(count(1234567), "1\u202f234\u202f567");
});

test("numbers are read out of a text, or none of them", () => {
  assert.deepEqual(numbersIn("0.5, -2e-3"), [0.5, -0.002]);
  assert.deepEqual(numbersIn("1 2"), [1, 2]);
  for (const text of ["", "1,", "x", "1,NaN", "1,,2"]) assert.deepEqual(numbersIn(text), [], text);
});

test("loss fractions add up and cancellation is 1 minus the mean of |sum| over sum of |.|", () => {
  const parts = [[1, -2, 0, 3], [-1, -1, 0, 1]]; // the third point has no influence
  const { fractions, cancellation } = termIndicators(parts);
  assert.deepEqual(fractions, [6 / 9, 3 / 9]);
  assert.equal(cancellation, 1 - (0 / 2 + 3 / 3 + 4 / 4) / 3);
  assert.ok(Number.isNaN(termIndicators([[0, 0]]).cancellation));
});

test("the share of a group counts sizes", () => {
  assert.equal(shareOfGroup([1, -3, 4, 0], [1, 3]), 3 / 8);
});

test("interpolation is exact for linear fields, and there is none outside", () => {
  const interpolation = new Interpolation(/** @type {any} */ (SQUARE), [1, 1]);
  const field = Float32Array.from({ length: 5 }, (_, i) => 2 * SQUARE.points[2 * i] - SQUARE.points[2 * i + 1]);
  const [value, outside] = interpolation.sample(field, [0.3, 0.1, 1.2, 0.5]);
  assert.ok(Math.abs(value - 0.5) < 1e-6);
  assert.ok(Number.isNaN(outside));
});

test("areas of points add up to the area of the mesh", () => {
  const areas = pointAreas(SQUARE);
  assert.ok(Math.abs(areas.reduce((a, b) => a + b) - 1) < 1e-12);
  assert.ok(Math.abs(areas[4] - 1 / 3) < 1e-12);
});

test("the outline is the rim", () => {
  assert.equal(outline(SQUARE).length, 4);
  assert.ok(outline(SQUARE).every((edge) => !edge.includes(4)));
});

test("points are found inside a polygon, nearest to a place, and ahead", () => {
  assert.deepEqual(inside(SQUARE.points, [[-0.1, -0.1], [0.6, -0.1], [0.6, 1.1], [-0.1, 1.1]]), [0, 3, 4]);
  assert.equal(nearest(SQUARE.points, [0.9, 0.2], [1, 1]), 1);
  assert.equal(nearest(SQUARE.points, [0.9, 0.2], [1, 1], Uint8Array.of(1, 0, 1, 1, 0)), 2);
  assert.equal(nearest(SQUARE.points, [0, 0], [1, 1], new Uint8Array(5)), -1);
  assert.equal(nextPoint(SQUARE.points, 0, [1, 0], [100, 100]), 1);
});

test("a view stays inside the whole", () => {
  const whole = { x0: 0, x1: 2, y0: 0, y1: 1 };
  assert.deepEqual(zoomed(whole, whole, 2, [0, 0]), { x0: 0, x1: 1, y0: 0, y1: 0.5 });
  assert.deepEqual(zoomed(whole, whole, 1e-9, [1, 1]), whole);
});

test("limits are percentiles of sizes over the points that count", () => {
  const values = Float32Array.of(1, -4, 2, -3, 100);
  assert.equal(robustLimit(values, null, 100), 100);
  assert.equal(robustLimit(values, Uint8Array.of(1, 1, 1, 1, 0), 100), 4);
  assert.deepEqual([...normalised([2, -4], 4, false)], [0.5, -1]);
  assert.ok(normalised([0.4], 4, true)[0] > 0.5);
});

test("marks of a scale of one sign lie on all of it", () => {
  const { marks, power } = scaleMarks(4e-7, false, true);
  assert.equal(power, -7);
  assert.deepEqual(marks.map(({ text }) => text), ["0", "1", "2", "3", "4"]);
  assert.deepEqual([marks[0].where, marks.at(-1).where].map((x) => Math.round(x * 1e6) / 1e6), [-1, 1]);
});

test("smoothed values are means, the constant stays constant, and far away there is none", () => {
  const x = [10, 11, 12, 13], values = [5, 5, 5, 5], image = smoothed({ x, y: x, values }, 100, 40, 3);
  assert.ok(Math.abs(image[11 * 100 + 11] - 5) < 1e-5);
  assert.ok(Number.isNaN(image[30 * 100 + 90]));
});

test("the strongest of a sign come in order", () => {
  assert.deepEqual(strongest([1, -5, 3, 2, -1], 1, 2), [2, 3]);
  assert.deepEqual(strongest([1, -5, 3, 2, -1], -1, 9), [1, 4]);
});
