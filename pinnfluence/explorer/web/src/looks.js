// All that panels and lists show of each model.

import { normalised, robustLimit } from "./colour.js";
import { kept } from "./model.js";
import { smoothed } from "./raster.js";
import { chosenPoint, chosenTest, groupOf, inSlice, page, scaleOf, state } from "./state.js";
import { interpolationOf, targetOf } from "./targets.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {NonNullable<ReturnType<typeof lookAt>>} Look */

/** Looks at the models of the page, in their order; null where one is not shown or lacks the quantity. */
export const view = {
  /** @type {(Look | null)[]} */
  current: [],
};

/** @returns {Look | null} the look at the model that the drawer is about */
export const focused = () => view.current[state.focus] ?? view.current.find(Boolean) ?? null;

/** @param {Model} model */
function lookAt(model) {
  if (!model.has(state.quantity)) return null;
  const target = targetOf(model), test = chosenTest(model);
  if (!target || test < 0) return null;
  const acts = inSlice(model.mesh, model.testSum(state.quantity).acts), trainActs = inSlice(model, model.trainActs(state.terms));
  const point = chosenPoint(model), group = state.polygon ? groupOf(model) : [point], factor = scaleOf(model);
  const vector = model.vectorOf(state.quantity, target);
  const row = model.row(vector, state.terms, factor), column = model.column(state.quantity, state.terms, group, factor);
  const value = group.reduce((sum, j) => sum + row[j], 0);
  const typical = state.overview ? typicalOf(model, factor) : null;
  return {
    model, acts, trainActs, target, test, point, group, vector, row, column, value, typical,
    difference: false,
    rowLimit: robustLimit(typical?.row ?? row, trainActs, state.percent),
    columnLimit: robustLimit(typical?.column ?? column, acts, state.percent),
  };
}

const typicalOf = (model, factor) =>
  kept(model.cache, ["typical", state.quantity, state.terms, factor].join(), () => model.typical(state.quantity, state.terms, factor));

/** Looks at all models that are shown, with the scales that they share. */
export function looks() {
  const all = page.models.map((model, i) => (state.shown.includes(i) ? lookAt(model) : null));
  if (state.difference && !state.overview) subtractFirst(all.filter(Boolean));
  if (state.same) {
    for (const limit of ["rowLimit", "columnLimit"]) {
      const largest = Math.max(0, ...all.filter(Boolean).map((look) => look[limit]));
      for (const look of all) if (look) look[limit] = largest;
    }
  }
  return all;
}

/** Maps of the others less that of the first, between whose points it is interpolated. */
/** @param {Look[]} all */
function subtractFirst(all) {
  const [first, ...others] = all;
  for (const look of others) {
    const { mesh } = look.model, same = mesh === first.model.mesh;
    if (!same && !first.model.mesh.triangles.length) continue;
    const there = same ? first.column : interpolationOf(first.model.mesh).sample(first.column, mesh.points);
    look.column = look.column.map((value, i) => (Number.isFinite(there[i]) ? value - there[i] : 0));
    look.columnLimit = robustLimit(look.column, look.acts, state.percent);
    look.difference = true;
  }
}

/** Differences below this come from float32, in which networks compute, and are no errors. */
export const roundingOf = (field) => 2 ** -22 * field.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export const backgroundName = (kind, name) => ({
  error: `error of ${name}`, estimated: `estimated error of ${name}`, helping: `where ${name} would help`,
  residual: `residual of ${name}`, leverage: "leverage of training points, smoothed", smooth: "the influence itself, smoothed",
})[kind] ?? `${kind} ${name}`;

/**
 * The field behind the points, at the test points: predicted, reference, error, residual of a loss
 * term; of diagnose.py the error that it estimates, and by what part of itself its square would fall
 * with a new point.
 * @param {Model} model @returns {Float32Array | null}
 */
export function background(model) {
  const [kind, name] = state.background.split(":"), { fields } = model;
  const predicted = fields.predicted[name], reference = model.mesh.reference[name];
  if (kind === "reference") return reference ?? null;
  if (kind === "estimated" || kind === "residual") return fields[kind][name]?.map(Math.abs) ?? null;
  if (kind === "predicted" || kind === "helping") return fields[kind][name] ?? null;
  if (kind === "error" && predicted && reference) {
    const least = roundingOf(reference);
    return predicted.map((value, i) => {
      const error = Math.abs(value - reference[i]);
      return error < least ? 0 : error;
    });
  }
  return null;
}

/** Whether there is something behind the points of a model. @param {Model} model */
export function hasBackground(model) {
  if (state.background === "smooth") return model.mesh.triangles.length > 0;
  if (state.background === "leverage:points") return "points" in model.fields.leverage;
  return background(model) !== null;
}

/**
 * Values of training points, smoothed over the pixels of a panel: about twelve points to a blur.
 * @param {Look} look @param {{ x: ArrayLike<number>, y: ArrayLike<number> }} pixels
 */
export function smoothedOf(look, pixels, width, height) {
  const leverage = state.background !== "smooth";
  const values = leverage ? look.model.fields.leverage.points
    : normalised(look.typical?.row ?? look.row, look.rowLimit, state.log).map((v) => Math.min(1, Math.max(-1, v)));
  const apart = Math.sqrt((width * height) / values.length);
  return smoothed({ ...pixels, values }, width, height, Math.max(2, Math.round(1.1 * apart)));
}
