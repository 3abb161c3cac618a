// Which loss terms the influence comes through: at the target, and along an axis.

import { TERM_COLOURS } from "./colour.js";
import { element } from "./elements.js";
import { termIndicators } from "./indicators.js";
import { ink } from "./ink.js";
import { focused } from "./looks.js";
import { kept } from "./model.js";
import { estimate, percent, signed, words } from "./numbers.js";
import { byId } from "./redraw.js";
import { allTerms, coordinatesOf, inSlice, nameWithUnit, page, scaleOf, state } from "./state.js";
import { cleared } from "./strongest.js";
import { inUnit } from "./targets.js";

/** @typedef {import("./looks.js").Look} Look */
/** @typedef {import("./model.js").Model} Model */

const BINS = 50;
const POINTS_OF_BIN = 2;
const SLICE_MS = 12; // of work between two frames

const colourOf = (term) => TERM_COLOURS[allTerms().indexOf(term) % TERM_COLOURS.length];

/** @param {Look} look */
export function showTerms(look) {
  const { model, vector } = look, terms = Object.keys(model.terms);
  const parts = model.byTerm(vector, terms, look.group, scaleOf(model)).filter(({ acts }) => acts);
  const largest = Math.max(...parts.map((p) => Math.abs(p.value)), 0);
  byId("by-term").replaceChildren(...parts.map(({ term, value }) => {
    const bar = element("span", [], { class: `bar ${value < 0 ? "lower" : "raise"}` });
    bar.style.setProperty("--share", largest ? Math.abs(value) / largest : 0);
    const row = element("tr", [element("th", term, { scope: "row" }), element("td", bar),
      element("td", inUnit(signed(value)), { class: "number" })]);
    if (!state.terms.includes(term)) row.className = "left-out";
    return row;
  }));
  if (state.tab !== "terms") return;
  const { fractions, cancellation } = indicatorsOf(model, vector);
  byId("fractions").replaceChildren(...terms.map((term, k) => {
    const bar = element("span", [], { class: "bar" });
    bar.style.setProperty("--share", fractions[k]);
    bar.style.background = colourOf(term);
    return element("tr", [element("th", term, { scope: "row" }), element("td", bar), element("td", percent(fractions[k]), { class: "number" })]);
  }));
  byId("cancellation").textContent = `Cancellation ${words(cancellation, 2)}: 0 where the terms of a point pull together, 1 where they cancel.`;
  drawAlong(model);
}

const indicatorsOf = (model, vector) => termIndicators(Object.keys(model.terms).map((term) => model.part(vector, term)));

/** Test points spread over equal parts of an axis. @param {Model} model @param {number} axis */
function pointsAlong(model, axis) {
  const acts = inSlice(model.mesh, model.testSum(state.quantity).acts), bins = Array.from({ length: BINS }, () => /** @type {number[]} */ ([]));
  const values = Array.from({ length: model.mesh.n }, (_, i) => coordinatesOf(model.mesh, i)[axis]);
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  values.forEach((value, i) => {
    if (!acts || acts[i]) bins[Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))]?.push(i);
  });
  // Evenly out of each part: the first and the last alone would be two places on a boundary.
  return { low, high, bins: bins.map((members) => members.filter((_, k) =>
    Math.floor(((k + 1) * POINTS_OF_BIN) / members.length) > Math.floor((k * POINTS_OF_BIN) / members.length))) };
}

const keyAlong = () => ["along", state.quantity, state.axis, ...state.slice].join();

/** Means of the indicators in each part of the axis, computed between frames when the choice rests. */
export function computeAlong() {
  const look = focused();
  if (state.tab !== "terms" || !look) return;
  const { model } = look, found = kept(model.cache, keyAlong(), () => ({ ...pointsAlong(model, state.axis), means: [] }));
  const { quantity } = state, { cache } = model, key = keyAlong();
  const work = () => {
    const until = performance.now() + SLICE_MS;
    while (found.means.length < BINS && performance.now() < until) {
      if (model.testKey !== quantity) return cache.delete(key); // another choice meanwhile
      found.means.push(meanOf(found.bins[found.means.length].map((i) =>
        indicatorsOf(model, model.vectorOf(quantity, { tests: [i], weights: [1] })))));
    }
    if (found.means.length < BINS) setTimeout(work);
    else if (focused()?.model === model) drawAlong(model);
  };
  if (found.means.length < BINS) work();
}

/** @param {{ fractions: number[], cancellation: number }[]} all */
function meanOf(all) {
  const known = all.filter(({ cancellation }) => Number.isFinite(cancellation));
  if (!known.length) return null;
  const mean = (of) => known.reduce((sum, one) => sum + of(one), 0) / known.length;
  return { fractions: known[0].fractions.map((_, k) => mean((one) => one.fractions[k])), cancellation: mean((one) => one.cancellation) };
}

/** Areas of the loss fractions, and a line of the cancellation. @param {Model} model */
function drawAlong(model) {
  const { c, width, height } = cleared(byId("along")), found = model.cache.get(keyAlong());
  const left = 22, base = height - 18, top = 6, w = width - left - 6, h = base - top, terms = Object.keys(model.terms);
  c.fillStyle = ink.faint;
  c.textAlign = "left";
  if (found?.means.length !== BINS) return c.fillText("computing …", left, base - 10);
  const step = w / BINS;
  found.means.forEach((mean, k) => {
    let y = base;
    mean?.fractions.forEach((fraction, t) => {
      c.fillStyle = colourOf(terms[t]);
      c.fillRect(left + k * step, y - fraction * h, step + 0.3, fraction * h);
      y -= fraction * h;
    });
  });
  c.beginPath();
  found.means.forEach((mean, k) => { if (mean) c.lineTo(left + (k + 0.5) * step, base - mean.cancellation * h); });
  for (const [colour, size] of /** @type {[string, number][]} */ ([[ink.paper, 4], [ink.ink, 2]])) {
    c.strokeStyle = colour;
    c.lineWidth = size;
    c.stroke();
  }
  c.fillStyle = ink.faint;
  c.fillText(words(found.low, 3), left, height - 4);
  c.textAlign = "right";
  c.fillText(`${nameWithUnit(page.description.axes[state.axis])}  ${words(found.high, 3)}`, left + w, height - 4);
  c.fillText("1", left - 5, top + 8);
  c.fillText("0", left - 5, base);
  describe(found, terms);
}

/** The drawing in words, for a screen reader. */
function describe(found, terms) {
  const known = found.means.filter(Boolean), mean = (of) => known.reduce((sum, one) => sum + of(one), 0) / known.length;
  const parts = terms.map((term, k) => `${term} ${percent(mean((one) => one.fractions[k]))}`);
  byId("along").setAttribute("aria-label", `loss fractions along ${page.description.axes[state.axis]}; means: ${parts.join(", ")}; ` +
    `cancellation ${estimate(mean((one) => one.cancellation))}`);
}
