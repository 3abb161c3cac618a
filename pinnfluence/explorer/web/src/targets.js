// What an influence is received by: a place, a region, a line, or an integral of the fields.

import { inside } from "./geometry.js";
import { Interpolation } from "./interpolation.js";
import { kept } from "./model.js";
import { withUnit, words } from "./numbers.js";
import { chosenTest, inSlice, isLoss, labelOf, page, proportions, state, unitOf } from "./state.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Mesh} Mesh */
/** @typedef {import("./model.js").Target} Target */

const LINE_POINTS = 64;

export const TARGETS = { point: "the place ✛", region: "the mean over a region", line: "the mean along a line" };

/** @param {Mesh} mesh @returns {Interpolation} */
export const interpolationOf = (mesh) => kept(mesh.cache, "interpolation", () => new Interpolation(mesh, proportions()));

/** Weights that add up to 1. @param {Map<number, number>} shares @returns {Target | null} */
function target(shares) {
  const tests = [...shares.keys()], total = [...shares.values()].reduce((a, b) => a + b, 0);
  return total > 0 ? { tests, weights: tests.map((i) => shares.get(i) / total) } : null;
}

/**
 * The mean over the test points inside a polygon on which the quantity acts: by the area that each
 * stands for, or by their number where the quantity acts on some of them only.
 * @param {Mesh} mesh @param {number[][]} polygon @param {import("./geometry.js").Mask} acts
 */
export function regionTarget(mesh, polygon, acts) {
  const members = inside(mesh.points, polygon).filter((i) => !acts || acts[i]);
  const by = acts || !mesh.triangles.length ? () => 1 : (i) => mesh.areas[i];
  return target(new Map(members.map((i) => [i, by(i)])));
}

/** The mean along a line, by interpolation at places on it that lie in the mesh. @param {Mesh} mesh @param {number[][]} line */
export function lineTarget(mesh, [from, to]) {
  const shares = new Map(), interpolation = interpolationOf(mesh);
  for (let k = 0; k < LINE_POINTS; k++) {
    const part = (k + 0.5) / LINE_POINTS;
    const found = interpolation.at([from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])]);
    found?.points.forEach((p, i) => { shares.set(p, (shares.get(p) ?? 0) + found.weights[i]); });
  }
  return target(shares);
}

/** @param {Model} model @returns {Target | null} what is chosen, for a model; null where it has none */
export function targetOf(model) {
  const acts = inSlice(model.mesh, model.testSum(state.quantity).acts);
  if (state.target === "region") return regionTarget(model.mesh, state.region, acts);
  if (state.target === "line") return acts ? null : lineTarget(model.mesh, state.line);
  if (state.target !== "point") return state.target in model.integrals ? { tests: [], weights: [], integral: state.target } : null;
  const test = chosenTest(model);
  return test < 0 ? null : { tests: [test], weights: [1] };
}

export const isIntegral = () => !(state.target in TARGETS);

/** What the target is, in words, as the object of a sentence. */
export function targetWords() {
  const name = isLoss(state.quantity) ? labelOf(state.quantity) : state.quantity;
  if (isIntegral()) return state.target;
  return { point: `${name} at ✛`, region: `the mean of ${name} in the region`, line: `the mean of ${name} on the line` }[state.target];
}

export function targetUnit() {
  if (isIntegral()) return page.description.units[state.target] ?? "";
  return isLoss(state.quantity) ? "" : unitOf(state.quantity);
}

/** What the network predicts for the target; undefined where that is not known. @param {Model} model @param {Target} chosen */
export function predictedAt(model, chosen) {
  if (chosen.integral) return model.integrals[chosen.integral].value;
  const field = model.fields.predicted[state.quantity];
  return field && chosen.tests.reduce((sum, i, k) => sum + chosen.weights[k] * field[i], 0);
}

/** The change as a share of what is predicted there. */
export function shareOf(change, look) {
  const value = predictedAt(look.model, look.target);
  return value ? `${words(100 * Math.abs(change / value), 2)} % of ${state.target === "point" ? `${state.quantity} there` : "it"}` : "";
}

export const inUnit = (text) => withUnit(text, targetUnit());
