// The one function that draws all that is chosen, in the next frame.

import { looks, view } from "./looks.js";
import { page, state } from "./state.js";

/** @typedef {import("./panel.js").Panel} Panel */

/** @type {Panel[]} */
export const panels = [];

/** What is drawn besides the panels, and what can wait until the choice rests. */
export const listeners = {
  /** @type {(() => void)[]} */
  drawn: [],
  /** @type {(() => void)[]} */
  rested: [],
};

const REST = 300; // ms

const byIdOf = new Map();

/** @param {string} id @returns {any} an element of the page, which stays where it is */
export function byId(id) {
  if (!byIdOf.has(id)) byIdOf.set(id, document.getElementById(id));
  return byIdOf.get(id);
}

/** @param {string} text for a screen reader */
export function announce(text) {
  byId("status").textContent = text;
}

let waiting = false, asked = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let later;

/** Draws in the next frame; however many changes come before, once. @param {string} [reason] */
export function refresh(reason) {
  if (reason === "choose") asked = performance.now();
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    if (asked) performance.measure("choose", { start: asked, end: performance.now() });
    asked = 0;
  });
}

export function draw() {
  if (!state.shown.includes(state.focus)) state.focus = state.shown[0];
  view.current = looks();
  document.body.dataset.models = String(state.shown.length);
  document.body.dataset.overview = String(state.overview);
  for (const panel of panels) panel.canvas.closest("figure").hidden = !state.shown.includes(page.models.indexOf(panel.model));
  for (const panel of panels) {
    if (!panel.canvas.closest("figure").hidden) panel.draw(view.current[page.models.indexOf(panel.model)]);
  }
  for (const listener of listeners.drawn) listener();
  clearTimeout(later);
  later = setTimeout(() => { for (const listener of listeners.rested) listener(); }, REST);
}
