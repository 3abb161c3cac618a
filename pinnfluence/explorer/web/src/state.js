// What is chosen, and small questions about it.

import { inside, nearest } from "./geometry.js";
import { words, withUnit } from "./numbers.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Mesh} Mesh */
/** @typedef {import("./geometry.js").View} View */
/** @typedef {import("./geometry.js").Mask} Mask */

export const DEFAULTS = {
  paper: false, // N times the influence, the scale of the paper's figures
  focus: 0, // the model that the drawer is about
  overview: true, // typical influence instead of that of the chosen point on the chosen place
  background: "none",
  percent: 99.5,
  log: false,
  same: true, // one colour scale for all models
  difference: false, // maps of the other models less that of the first one
  tool: "point",
  target: "point", // or region, line, the name of an integral
  /** @type {number[][] | null} */
  region: null, // test points inside
  /** @type {number[][] | null} */
  line: null, // two ends
  /** @type {number[][] | null} */
  polygon: null, // training points inside, together
  tab: "strongest",
  axis: 0, // along which loss fractions are drawn
};

export const state = {
  ...DEFAULTS,
  problem: 0,
  quantity: "",
  /** @type {string[]} */
  terms: [],
  /** @type {number[]} */
  shown: [], // models that are drawn
  place: [0, 0], // where influence is received, in coordinates
  point: { model: 0, index: 0 }, // what gives it; other models take their nearest point
  /** @type {View} */
  view: { x0: 0, x1: 1, y0: 0, y1: 1 },
  /** @type {number[]} */
  slice: [], // of coordinates that are not drawn: values around which points are shown
};

/** The problem that is shown: all of its models share axes, units and a place. */
export const page = {
  /** @type {Model[]} */
  models: [],
  /** @type {Mesh[]} */
  meshes: [],
  /** @type {View} */
  whole: { x0: 0, x1: 1, y0: 0, y1: 1 },
  /** @type {any} */
  description: null, // of this problem
  /** @type {any[]} */
  problems: [], // descriptions of all
  /** @type {[number, number][]} */
  ranges: [], // of coordinates that are not drawn
};

export const unitOf = (name) => page.description.units[name] ?? "";
export const isLoss = (name) => !(page.models.find((m) => m.has(name))?.quantities[name]?.loss === false);
export const labelOf = (name) => page.description.sums[name] ?? name;
export const nameWithUnit = (name) => (unitOf(name) ? `${name} (${unitOf(name)})` : name);
export const allTerms = () => [...new Set(page.models.flatMap((model) => Object.keys(model.terms)))];
export const integralNames = () => [...new Set(page.models.flatMap((model) => Object.keys(model.integrals)))];
export const scaleOf = (model) => (state.paper ? model.nTrain : 1);
export const at = (points, i) => [points[2 * i], points[2 * i + 1]];
export const onLine = () => page.description.axes.length === 1;

/** All coordinates of a training point (of a model) or of a test point (of a mesh). */
export const coordinatesOf = (owner, i) =>
  [...at(owner.points, i), ...owner.others.map((values) => values[i])].slice(0, page.description.axes.length);

export const pair = (place, digits = 3) => `(${Array.from(place, (c) => words(c, digits)).join(", ")})`;
export const placed = (place) =>
  page.description.axes.map((name, k) => `${name} = ${withUnit(words(place[k], 3), unitOf(name))}`).join(", ");

/** A slice is so thick that about a tenth of evenly spread points is in it. */
export const halfThickness = ([low, high]) => (0.1 ** (1 / page.ranges.length) * (high - low)) / 2;

export const sliceWords = () => state.slice.map((value, k) =>
  `${page.description.axes[k + 2]} = ${words(value, 3)} ± ${words(halfThickness(page.ranges[k]), 2)}`).join(", ");

/** The points that count, of those in the slice; null where all do. @param {any} owner @param {Mask} acts @returns {Mask} */
export function inSlice(owner, acts) {
  if (!state.slice.length) return acts;
  const key = state.slice.join();
  if (owner.sliceKey !== key) {
    const halves = page.ranges.map((limits) => halfThickness(limits) * (1 + 1e-5));
    owner.slice = Uint8Array.from(owner.others[0], (_, i) =>
      owner.others.every((values, k) => Math.abs(values[i] - state.slice[k]) <= halves[k]));
    owner.sliceKey = key;
  }
  return acts ? owner.slice.map((seen, i) => seen && acts[i]) : owner.slice;
}

/** Distances are those of the whole drawing, in its proportions. */
export function proportions() {
  const { x0, x1, y0, y1 } = page.whole;
  return page.description.equal ? [1, 1] : [1 / (x1 - x0), 1 / (y1 - y0)];
}

export function chosenTest(model) {
  const { acts } = model.testSum(state.quantity);
  return nearest(model.mesh.points, state.place, proportions(), inSlice(model.mesh, acts));
}

export function chosenPoint(model) {
  const other = page.models[state.point.model], { index } = state.point;
  if (other === model) return index;
  const distances = other.others.map((values, k) => model.others[k].map((c) =>
    ((c - values[index]) / (page.ranges[k][1] - page.ranges[k][0])) ** 2));
  const far = distances.length ? distances[0].map((_, i) => distances.reduce((sum, d) => sum + d[i], 0)) : null;
  return nearest(model.points, at(other.points, index), proportions(), null, far);
}

/** How far apart two places are, in words, and nothing where they are the same. */
export function apartWords(from, to) {
  const offset = from.map((c, k) => to[k] - c), { x0, x1 } = page.whole, { axes } = page.description;
  if (Math.hypot(...offset) <= 1e-6 * (x1 - x0)) return "";
  if (page.description.equal) return `${withUnit(words(Math.hypot(...offset), 2), unitOf(axes[0]))} away`;
  return `${axes.slice(0, 2).map((name, k) => `${withUnit(words(Math.abs(offset[k]), 2), unitOf(name))} in ${name}`).join(", ")} away`;
}

/** How far a model's training point lies from the one that was chosen in another model. */
export const pointApart = (look) => apartWords(
  at(page.models[state.point.model].points, state.point.index), at(look.model.points, look.point));

/** The training points inside the lasso, of those in the slice. */
export function groupOf(model, polygon = state.polygon) {
  const seen = inSlice(model, null), members = inside(model.points, polygon);
  return seen ? members.filter((i) => seen[i]) : members;
}

/**
 * Where one begins: the strongest training point for the place in the middle of the fastest
 * change, so that the first picture is not an empty one.
 */
export function begin() {
  Object.assign(state, DEFAULTS);
  state.slice = page.ranges.map(([low, high]) => (low + high) / 2);
  const [first] = page.models, names = Object.keys(first.quantities).filter((name) => first.has(name));
  state.quantity = names.find((name) => !first.quantities[name].loss) ?? names[0];
  state.terms = allTerms();
  state.shown = page.models.map((_, i) => i);
  const { x0, x1, y0, y1 } = page.whole;
  state.place = [x0 + 0.3 * (x1 - x0), y0 + 0.55 * (y1 - y0)];
  state.view = { ...page.whole };
  const test = Math.max(0, chosenTest(first)); // a slice may have no test point
  const row = first.row(first.vectorOf(state.quantity, { tests: [test], weights: [1] }), state.terms, 1);
  let strongest = 0;
  row.forEach((value, j) => { if (Math.abs(value) > Math.abs(row[strongest])) strongest = j; });
  state.point = { model: 0, index: strongest };
}
