// How far a model's numbers are from retraining: what was measured, or that nothing was.

import { words } from "./numbers.js";
import { state } from "./state.js";

/** @typedef {import("./model.js").Model} Model */

/** Median error of a row from which on it stands beside the numbers. */
const STATED = 0.05;

/** The validation that is about the chosen quantity, or else about another one of the same model. @param {Model} model */
const validationOf = ({ agreement }) => agreement[state.quantity] ?? Object.values(agreement)[0] ?? null;

/** A word or two, for places where there is no room. @param {Model} model */
export function trustShort(model) {
  const found = validationOf(model);
  return found ? `rank correlation ${words(found.spearman, 2)}` : model.predicts ? "not checked" : "not a prediction of retraining";
}

/** @param {Model} model */
export function trust(model) {
  const found = validationOf(model);
  if (!found) return (model.predicts ? `${model.note}; not checked here` : model.note) + ownError(model);
  const about = state.quantity === found.quantity ? "" : ` for ${found.quantity}`;
  return `recipe ${model.recipe.name}: predicted retraining with rank correlation ${words(found.spearman, 2)}${about} here ` +
    `(${found.n_groups} removed points, proximal weight ${words(found.proximal, 1)}${found.polished ? ", polished before" : ""})${ownError(model)}`;
}

/** That the page itself is off, where a reader of two digits must know. @param {Model} model */
function ownError(model) {
  const off = model.description.errors[state.quantity]?.together.rows.median;
  return off > STATED ? `; this page is off by ${words(100 * off, 1)} % of the largest` : "";
}

/** How good that is: measured and high, measured and lower, or not measured. @param {Model} model */
export function trustGrade(model) {
  const found = validationOf(model);
  if (!found) return model.predicts ? "unknown" : "bad";
  return found.spearman >= 0.9 ? "good" : found.spearman >= 0.5 ? "fair" : "bad";
}
