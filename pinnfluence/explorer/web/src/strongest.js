// The training points with the largest influence of either sign, and how often which influence is.

import { css, normalised } from "./colour.js";
import { element } from "./elements.js";
import { FONT, ink } from "./ink.js";
import { kept } from "./model.js";
import { count, estimate, signed } from "./numbers.js";
import { choose } from "./pointer.js";
import { strongest } from "./ranking.js";
import { byId, panels } from "./redraw.js";
import { coordinatesOf, inSlice, pair, placed, scaleOf, state } from "./state.js";
import { targetWords } from "./targets.js";

/** @typedef {import("./looks.js").Look} Look */

const LISTED = 10;

/** The row that the lists are about: of all chosen loss terms, or of one. @param {Look} look @returns {Float32Array} */
export function listedRow(look) {
  const term = byId("list-term").value;
  if (!(term in look.model.terms)) return look.row;
  return look.model.part(look.vector, term).map((value) => value * scaleOf(look.model));
}

/** @param {Look} look */
export function showStrongest(look) {
  if (state.tab !== "strongest") return;
  fillTerms(look);
  const row = listedRow(look), seen = inSlice(look.model, null), counted = seen ? row.map((value, i) => (seen[i] ? value : 0)) : row;
  for (const [id, verb, sign] of /** @type {[string, string, 1 | -1][]} */ ([["raise", "raises", 1], ["lower", "lowers", -1]])) {
    byId(`${id}-title`).textContent = `Removal ${verb}`;
    byId(`${id}-title`).title = targetWords();
    showList(id, look, row, strongest(counted, sign, LISTED));
  }
  drawHistogram(look, row);
}

function fillTerms(look) {
  const select = byId("list-term"), terms = Object.keys(look.model.terms);
  const wanted = ["", ...terms].join();
  if (select.dataset.terms === wanted) return;
  select.replaceChildren(element("option", "all chosen loss terms", { value: "" }),
    ...terms.map((term) => element("option", `${term} alone`, { value: term })));
  select.dataset.terms = wanted;
}

function showList(id, look, row, order) {
  const panel = panels.find((p) => p.kind === "points" && p.model === look.model);
  const mark = (index) => () => { panel.hovered = index; panel.draw(panel.look); };
  const items = order.map((i) => {
    const coordinates = coordinatesOf(look.model, i);
    const button = element("button", [element("span", signed(row[i]), { class: "number" }), element("span", pair(coordinates, 2), { class: "place" })],
      { type: "button", "aria-label": `training point ${i}: ${signed(row[i])} at ${placed(coordinates)}` });
    if (i === look.point && !state.polygon) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choose(panel, i));
    button.addEventListener("pointerenter", mark(i));
    button.addEventListener("pointerleave", mark(-1));
    return element("li", button);
  });
  byId(id).replaceChildren(...(items.length ? items : [element("li", "none", { class: "none" })]));
}

/** A canvas in the pixels of the screen, empty. @param {any} canvas */
export function cleared(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const c = kept(contexts, canvas, () => canvas.getContext("2d"));
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = `11px ${FONT}`;
  return { c, width, height };
}

const contexts = new Map();

/** Bins as wide on the colour scale, numbers on a logarithmic axis. */
function drawHistogram(look, row) {
  const { c, width, height } = cleared(byId("histogram")), base = height - 20, n = 41, bins = new Float64Array(n);
  for (const place of normalised(row, look.rowLimit, state.log)) {
    bins[Math.min(n - 1, Math.max(0, Math.floor(((place + 1) / 2) * n)))]++;
  }
  const most = Math.max(...bins), top = Math.log1p(most), bar = width / n;
  bins.forEach((number, k) => {
    const size = (Math.log1p(number) / top) * (base - 16);
    c.fillStyle = css(ink.signed[Math.round((k / (n - 1)) * 255)]);
    c.strokeStyle = ink.line;
    c.fillRect(k * bar + 0.5, base - size, bar - 1, size);
    c.strokeRect(k * bar + 0.5, base - size, bar - 1, size);
  });
  c.fillStyle = ink.faint;
  c.fillText(`most in a bin: ${count(most)} of ${count(row.length)}`, 0, 10);
  const limit = look.rowLimit;
  for (const [text, x, align] of /** @type {[string, number, CanvasTextAlign][]} */ ([
    [`≤ ${estimate(-limit)}`, 0, "left"], ["0", width / 2, "center"], [`≥ ${signed(limit)}`, width, "right"]])) {
    c.textAlign = align;
    c.fillText(text, x, height - 5);
  }
  c.textAlign = "left";
}
